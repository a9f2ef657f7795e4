"""What is written so that kernelspecs here are those of environments there: the decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpec
from traitlets.config import Config

from remote_provisioners.cli.command import CommandError
from remote_provisioners.cli.environments.choosing import (
    candidates,
    chosen_by_answer,
    chosen_by_name,
)
from remote_provisioners.environments.environment import Environment, environments_of
from remote_provisioners.environments.host_entry import for_environments, host_entry
from remote_provisioners.environments.installed import (
    InstalledEnvironment,
    check_files,
    read_environment,
    write_environment,
)
from remote_provisioners.environments.kernelspec import Offer
from remote_provisioners.environments.naming import kernelspec_name, title
from remote_provisioners.environments.plan import CHANGED, EDITED, GONE_NOW, NEW, UNCHANGED, plan
from remote_provisioners.environments.survey import HostEnvironments
from remote_provisioners.errors import ConfigurationError
from remote_provisioners.options.config import RemoteProvisionerConfigMixin
from remote_provisioners.placement.host_address import parse_address
from remote_provisioners.placement.inventory import HostSpec
from remote_provisioners.protocol.answers import FoundEnvironments, FoundKernelspec

TORCH = Environment(
    kind="conda",
    name="torch",
    title="Python 3.12 (torch)",
    language="python",
    version="3.12.1",
    path="/opt/conda/envs/torch",
    program="/opt/conda/envs/torch/bin/python",
    package="ipykernel",
    package_version="7.0.0",
    argv=("/opt/conda/envs/torch/bin/python", "-m", "ipykernel_launcher"),
)
NEWER = replace(TORCH, version="3.13.0", title="Python 3.13 (torch)")


class Here:
    """The kernelspecs on this machine, in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def installed(self) -> list[InstalledEnvironment]:
        found = (read_environment(p.name, p) for p in sorted(self.directory.iterdir()))
        return [each for each in found if each is not None]

    def apply(
        self, *offers: Offer, present: Mapping[str, set[str]] | None = None
    ) -> list[tuple[str, str, list[str]]]:
        """Plan and write; returns the kind, the name and the hosts of each change."""
        taken = [path.name for path in self.directory.iterdir()]
        changes = plan(offers, self.installed, taken, present)
        for change in changes:
            if change.written:
                files = change.offer.files if change.offer else {}
                write_environment(self.directory / change.name, change.content, files, frozenset())
        return [(change.kind, change.name, list(change.hosts)) for change in changes]

    def content(self, name: str) -> Any:
        (found,) = (each.content for each in self.installed if each.name == name)
        return found


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def on(*hosts: str, environment: Environment = TORCH, **kwargs: Any) -> list[Offer]:
    return [Offer(host, environment, **kwargs) for host in hosts]


def test_the_same_environment_is_one_kernelspec(here: Here) -> None:
    assert here.apply(*on("a", "b")) == [(NEW, "remote-torch", ["a", "b"])]
    assert here.apply(*on("a", "b")) == [(UNCHANGED, "remote-torch", ["a", "b"])]
    assert here.apply(*on("c")) == [(CHANGED, "remote-torch", ["a", "b", "c"])]
    assert here.content("remote-torch")["display_name"] == "Python 3.12 (torch) · 3 hosts"
    assert here.apply(*on("b")) == [(UNCHANGED, "remote-torch", ["a", "b", "c"])]


def test_patch_versions_may_differ_between_hosts(here: Here) -> None:
    other = replace(TORCH, version="3.12.9", package_version="6.29.0")
    offers = [*on("a"), *on("b", environment=other)]
    assert here.apply(*offers) == [(NEW, "remote-torch", ["a", "b"])]
    assert here.apply(*on("b", environment=other)) == [(UNCHANGED, "remote-torch", ["a", "b"])]
    assert here.apply(*offers) == [(UNCHANGED, "remote-torch", ["a", "b"])]


def test_what_differs_is_another_kernelspec(here: Here) -> None:
    assert here.apply(
        *on("a"), *on("b", environment=NEWER), *on("c", activation={"CUDA": "12"})
    ) == [(NEW, "torch-a", ["a"]), (NEW, "torch-b", ["b"]), (NEW, "torch-c", ["c"])]


def test_an_upgrade_on_one_host_parts_it_from_the_others(here: Here) -> None:
    here.apply(*on("a", "b"))
    offers = [*on("a", environment=NEWER), *on("b")]
    present = {"a": {TORCH.key}, "b": {TORCH.key}}
    assert here.apply(*offers, present=present) == [
        (NEW, "torch-a", ["a"]),
        (CHANGED, "remote-torch", ["b"]),
    ]
    assert {change[0] for change in here.apply(*offers, present=present)} == {UNCHANGED}
    # After an upgrade of the second both stay: notebooks name them.
    both = on("a", "b", environment=NEWER)
    assert here.apply(*both, present=present) == [
        (UNCHANGED, "torch-a", ["a"]),
        (CHANGED, "remote-torch", ["b"]),
    ]
    # A third joins one of them.
    assert here.apply(*both, *on("c", environment=NEWER)) == [
        (CHANGED, "torch-a", ["a", "c"]),
        (UNCHANGED, "remote-torch", ["b"]),
    ]


def test_an_upgrade_on_all_hosts_keeps_the_name(here: Here) -> None:
    here.apply(*on("a"))
    assert here.apply(*on("a", environment=NEWER)) == [(CHANGED, "torch-a", ["a"])]
    assert here.content("torch-a")["display_name"] == "Python 3.13 (torch) · a"


def test_what_is_gone(here: Here) -> None:
    here.apply(*on("a", "b"))
    assert here.apply(*on("b"), present={"a": set(), "b": {TORCH.key}}) == [
        (CHANGED, "remote-torch", ["b"])
    ]
    assert here.apply(present={"b": set()}) == [(GONE_NOW, "remote-torch", ["b"])]
    assert here.content("remote-torch")["display_name"] == "Python 3.12 (torch) · b (gone)"
    assert here.apply(present={"b": set()}) == [(UNCHANGED, "remote-torch", ["b"])]
    assert here.apply(*on("b"), present={"b": {TORCH.key}}) == [(CHANGED, "remote-torch", ["b"])]
    assert "gone" not in here.content("remote-torch")["display_name"]


@pytest.mark.parametrize("edit", ["kernel.json", "logo.svg", "another"])
def test_what_a_person_has_edited_stays(here: Here, edit: str) -> None:
    offers = on("a", files={"logo.svg": b"x"})
    here.apply(*offers)
    path = here.directory / "torch-a" / edit
    before = path.read_text() if path.exists() else ""
    path.write_text(before.replace("Python", "Mein Python") + " ")
    for present in ({"a": {TORCH.key}}, {"a": set()}):
        changes = here.apply(*(offers if present["a"] else []), present=present)
        assert changes == [(EDITED, "torch-a", ["a"])]


def test_a_name_that_somebody_uses_is_not_taken(here: Here) -> None:
    (here.directory / "torch-a").mkdir()
    (here.directory / "torch-a" / "kernel.json").write_text("{}")
    assert here.apply(*on("a")) == [(NEW, "torch-a-2", ["a"])]
    assert kernelspec_name("My Env!", ["me@gpu1.example.org:2222"], ()) == "my-env-gpu1"


def test_titles_are_short_unless_that_makes_them_equal() -> None:
    assert title("R 4.2", ["me@gpu1.a.org:2222"], ()) == "R 4.2 · gpu1"
    assert title("R 4.2", ["gpu1.b.org"], {"R 4.2 · gpu1"}) == "R 4.2 · gpu1.b.org"
    assert title("R 4.2", ["10.0.0.1", "[fd00::1]"], ()) == "R 4.2 · 10.0.0.1, fd00::1"


def test_a_hosts_properties_come_with_it() -> None:
    listed = [{"host": "a", "capacity": 2, "labels": ["x"], "gpus": 2, "python": "/p"}, "b"]
    config = Config({"RemoteProvisionerConfigMixin": {"network_grace": 9, "warm": 1}})
    of_spec = RemoteProvisionerConfigMixin(
        config=config, remote_hosts=listed, connect=["nsenter", "{host}"], preload=["numpy"]
    )
    a, b = (of_spec.completed(spec) for spec in of_spec.inventory())
    properties = {"capacity": 2, "labels": ["x"], "gpus": ["0", "1"], "python": "/p"}
    way = {"connect": ["nsenter", "a"], "preload": ["numpy"]}
    assert host_entry(a, config) == {"host": "a", **properties, **way}
    assert host_entry(b, config) == {"host": "b", "connect": ["nsenter", "b"], "preload": ["numpy"]}
    general = RemoteProvisionerConfigMixin(config=config)
    assert host_entry(general.host_spec("c"), config) == "c"
    again = RemoteProvisionerConfigMixin(config=config, remote_hosts=[host_entry(a, config)])
    assert host_entry(again.host_spec("a"), config) == host_entry(a, config)


def test_the_options_of_other_kernels_are_not_taken_over() -> None:
    config = Config({"RemoteProvisionerConfigMixin": {"environment_hook": "general"}})
    own = {"host": "b", "environment_hook": "of b"}
    options = RemoteProvisionerConfigMixin(
        config=config,
        remote_hosts=["a", own],
        environment_hook="of the kernelspec",
        preload=["numpy"],
        python="/only/one",
    )
    a, b = (for_environments(s, options.completed(s), config) for s in options.inventory())
    assert (a.hook, a.preload, a.python) == ("general", (), "/only/one")
    assert host_entry(a, config) == {"host": "a", "python": "/only/one"}
    assert host_entry(b, config) == {**own, "python": "/only/one"}


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "", "kernel.json", "a\0b"])
def test_no_file_of_a_host_leaves_its_directory(path: str) -> None:
    with pytest.raises(ConfigurationError, match="has sent a file with the forbidden path"):
        check_files({path: b""})


def test_what_is_chosen() -> None:
    names = ("a", "b", "c", "d")
    listed = [replace(TORCH, name=name, path=f"/{name}", title=name.upper()) for name in names]
    bare = replace(TORCH, name="bare", argv=(), missing="no kernel", install="pip install x")
    hosts = [HostEnvironments(HostSpec("h", parse_address("h")), [*listed, bare])]
    found = candidates(hosts)

    def answered(answer: str) -> str:
        return "".join(each.environment.name for each in chosen_by_answer(found, answer))

    answers = {"": "abcd", "all": "abcd", "none": "", "2": "b", "1,3-4": "acd", "c 1 c": "ca"}
    assert {answer: answered(answer) for answer in answers} == answers
    for wrong in ("5", "0", "3-1", "x"):
        with pytest.raises(CommandError):
            answered(wrong)
    assert [c.hosts for c in chosen_by_name(hosts, found, ["a", "/b", "C", "a"])] == [["h"]] * 3
    with pytest.raises(CommandError, match=r"cannot run kernels: no kernel\n.*pip install x"):
        chosen_by_name(hosts, found, ["bare"])


@pytest.mark.parametrize("value", [None, [1], "x", 7, {"a": 1, "b": "c"}])
@pytest.mark.parametrize("key", ["env", "metadata", "display_name", "language", "interrupt_mode"])
def test_any_kernel_json_of_a_host_makes_a_kernelspec(here: Here, key: str, value: Any) -> None:
    spec = {"argv": ["run", "{connection_file}"], "display_name": "X", key: value}
    found = FoundKernelspec(name="x", path="/kernels/x", spec=spec, program="/bin/run")
    (environment,) = environments_of(FoundEnvironments(kernelspecs=[found]))
    assert here.apply(*on("a", environment=environment)) == [(NEW, "x-a", ["a"])]
    assert here.apply(*on("a", environment=environment)) == [(UNCHANGED, "x-a", ["a"])]
    written = KernelSpec.from_resource_dir(str(here.directory / "x-a"))
    assert written.argv == ["run", "{connection_file}"]
    assert all(isinstance(text, str) for text in written.env.values())
