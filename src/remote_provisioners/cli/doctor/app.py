"""``jupyter remote doctor``."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Coroutine, Sequence
from typing import Any

from traitlets import Bool

from ...io_thread import io_thread
from ...placement.inventory import HostSpec
from ..command import FAILED, Command, Text, using_hosts
from ..configured import ConfiguredHost, configured_hosts, engine_kernelspecs
from ..seconds import positive_seconds
from ..waiting import Waiting
from .engine import EngineExamination
from .examination import Examination
from .findings import Finding, HostFindings


class DoctorApp(Command):
    name = "jupyter-remote-doctor"
    description = """Examine hosts step by step, up to a kernel that answers.

    Usage: jupyter remote doctor [HOST...] [options]

    Without a HOST, it examines all hosts in the installed kernelspecs, the configuration file or
    RP_REMOTE_HOSTS. For each host it checks the address, the name, the port, the host key and the
    login. Then it checks the agent, the environment hook and ipykernel, and measures how fast a
    kernel is. It leaves nothing on a host.

    The name of a kernelspec may stand for a HOST. Then it examines the kernelspec's hosts. If an
    engine such as Slurm places the kernelspec's kernels, it examines the engine, and starts a
    kernel there.

    Exit codes: 0 all is well, 1 a check failed, 2 the command line is wrong.
    """
    examples = """
    jupyter remote doctor
    jupyter remote doctor host1 me@host2:2222 --python=/opt/venv/bin/python
    jupyter remote doctor host1 --environment-hook='module load python'
    """
    aliases = Command.aliases | {
        "python": "DoctorApp.python",
        "environment-hook": "DoctorApp.environment_hook",
        "timeout": "DoctorApp.timeout",
    }
    flags = Command.flags | {
        "json": ({"DoctorApp": {"json_output": True}}, "Print JSON."),
    }
    reads_hosting_config = True

    python = Text(help="The interpreter on the hosts, instead of the configured one.").tag(
        config=True
    )
    environment_hook = Text(help="The environment hook, instead of the configured one.").tag(
        config=True
    )
    timeout = Text("30", help="The limit for each check, in seconds.").tag(config=True)
    json_output = Bool(False, help="Print JSON.").tag(config=True)

    def run(self) -> int:
        words = self.words(None, "hosts")
        engines = {n: o for n, o in engine_kernelspecs(self).items() if n in words or not words}
        names = [word for word in words if word not in engines]
        patients = self._patients(names) if names or not words else []
        if not words and engines:  # then they are the configuration, and not a host by default
            patients = [patient for patient in patients if patient.kernelspecs]
        timeout = positive_seconds("timeout", self.timeout)
        examinations = [_examined(patient, timeout) for patient in patients]
        examinations += [EngineExamination(n, o, timeout).run() for n, o in engines.items()]
        names = [*(patient.host.name for patient in patients), *engines]
        findings = asyncio.run(self._examine(examinations, names))
        if self.json_output:
            print(json.dumps({"hosts": [found.as_json() for found in findings]}, indent=2))
        return 0 if all(found.ok for found in findings) else FAILED

    async def _examine(
        self, examinations: Sequence[Coroutine[Any, Any, HostFindings]], names: Sequence[str]
    ) -> list[HostFindings]:
        """Examine all hosts in parallel. Print each as soon as those before it are printed."""
        running = [asyncio.ensure_future(examination) for examination in examinations]
        findings = []
        async with using_hosts(), Waiting(names) as waiting:
            for examined, name in zip(running, names, strict=True):
                findings.append(await examined)
                waiting.answered(name)
                if not self.json_output:
                    print(findings[-1].text(), flush=True)
        return findings

    # -- the hosts to examine ---------------------------------------------------------------

    def _patients(self, names: Sequence[str]) -> list[ConfiguredHost]:
        """The named hosts, or all, once for each different configuration."""
        merged: dict[tuple[HostSpec, str], ConfiguredHost] = {}
        for patient in map(self._with_options, self._named(names)):
            key = patient.host, patient.error
            specs = (merged[key].kernelspecs if key in merged else ()) + patient.kernelspecs
            merged[key] = ConfiguredHost(patient.host, specs, patient.error)
        return list(merged.values())

    def _named(self, names: Sequence[str]) -> list[ConfiguredHost]:
        """The hosts of these names, or of the kernelspecs of these names; all without a name."""
        all_ = configured_hosts(self, [])
        if not names:
            return all_
        hosts = {place.host.name for place in all_}
        found: list[ConfiguredHost] = []
        for name in names:
            of_kernelspec = [place for place in all_ if name in place.kernelspecs]
            is_host = name in hosts or not of_kernelspec
            found += configured_hosts(self, [name]) if is_host else of_kernelspec
        return found

    def _with_options(self, patient: ConfiguredHost) -> ConfiguredHost:
        host = dataclasses.replace(
            patient.host,
            python=self.python or patient.host.python,
            hook=self.environment_hook or patient.host.hook,
        )
        return dataclasses.replace(patient, host=host)


async def _examined(patient: ConfiguredHost, timeout: float) -> HostFindings:
    found = HostFindings(patient.host.name, patient.kernelspecs)
    if patient.error:
        check = "kernelspec" if patient.kernelspecs else "address"
        advice = "install it again: jupyter remote spec install" if patient.kernelspecs else ""
        found.checks = [Finding(check, False, patient.error, advice)]
    else:
        found.checks = await io_thread().call(Examination(patient.host, timeout).run())
    return found
