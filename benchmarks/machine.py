"""What the figures were taken on."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Iterable
from pathlib import Path

from .command import output
from .environments import installed
from .setting import Setting, Subject


def describe(setting: Setting, subjects: Iterable[Subject], rounds: int) -> dict[str, str]:
    packages: dict[str, str] = {}
    for subject in subjects:
        packages |= subject.versions
    kernel = _first_line(setting.kernel_python, "--version")
    return {
        **here(),
        "rounds": f"{rounds}, interleaved between the subjects",
        "kernel": f"{kernel}, ipykernel {installed('ipykernel')}, the same for all subjects",
        "ssh": _first_line("ssh", "-V"),
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items()),
    }


def here() -> dict[str, str]:
    """The date, this machine, and the Python that asks."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} cores, {_processor()}, {platform.system()} "
        f"{platform.release()}, load {os.getloadavg()[0]:.1f}",
        "client": f"{platform.python_implementation()} {platform.python_version()}",
    }


def write_page(name: str, title: str, text: str) -> None:
    """What was measured, and with what, as a page of this directory."""
    machine = "\n".join(f"- {what}: {said}" for what, said in here().items())
    page = f"# {title}\n\n{text}\n\nMeasured with:\n\n{machine}\n"
    Path(__file__).with_name(name).write_text(page)


def _processor() -> str:
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _first_line(*argv: str) -> str:
    return output(argv).strip().partition("\n")[0]
