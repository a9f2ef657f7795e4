"""A kernelspec's directory on its way to a host: what leaves here is what arrives there."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from remote_provisioners.agent.kernels import resource_store
from remote_provisioners.kernels.start.resource_upload import ResourceArchive


def test_links_arrive_as_what_they_lead_to(tmp_path: Path) -> None:
    """Package managers make them: conda hard links, Nix and stow symbolic ones."""
    elsewhere, spec, there = (tmp_path / name for name in ("elsewhere", "spec", "there"))
    elsewhere.mkdir()
    (elsewhere / "launch.py").write_text("launch")
    spec.mkdir()
    (spec / "kernel.json").write_text("{}")
    os.link(spec / "kernel.json", spec / "a-second-name.json")
    (spec / "launch.py").symlink_to(elsewhere / "launch.py")
    (spec / "scripts").symlink_to(elsewhere)
    (spec / "circle").symlink_to(spec)
    (spec / "broken").symlink_to("nowhere")
    os.mkfifo(spec / "pipe")

    archive = ResourceArchive(spec)
    content = base64.b64encode(archive.content).decode()
    resource_store.unpack(str(there), archive.digest, content)
    arrived = Path(resource_store.path(str(there), archive.digest))
    assert {str(p.relative_to(arrived)): p.read_text() for p in arrived.rglob("*.*")} == {
        "kernel.json": "{}",
        "a-second-name.json": "{}",
        "launch.py": "launch",
        "scripts/launch.py": "launch",
    }
    assert ResourceArchive(spec).digest == archive.digest


def test_what_nobody_needs_is_removed(tmp_path: Path) -> None:
    names = [f"{number:064x}" for number in range(resource_store.KEPT + 4)]
    for number, name in enumerate(names):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (number, number))
    (tmp_path / "unpack-0-of-a-killed-agent").mkdir()
    (tmp_path / f"unpack-{os.getpid()}-now").mkdir()
    assert resource_store.present(str(tmp_path), names[2])  # its start comes next
    resource_store.tidy(str(tmp_path), {names[1]})
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {names[1], names[2], f"unpack-{os.getpid()}-now", *names[5:]}


def test_another_may_be_unpacked_meanwhile(tmp_path: Path) -> None:
    name = "0" * 64
    (tmp_path / name).mkdir()
    (tmp_path / "unpack-1-x").symlink_to("just-renamed")  # listed, and not there any more
    assert resource_store.present(str(tmp_path), name)
