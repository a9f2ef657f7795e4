"""IPython's history in a home directory where it cannot be used at the moment."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from remote_provisioners.agent.kernels import history

from ..conftest import InstallSpec, Start
from ..rig.slow_files import SlowFiles

HISTORY = "str(get_ipython().history_manager.hist_file)"


@pytest.mark.usefixtures("home")
def test_a_locked_history_holds_up_no_start(
    install_spec: InstallSpec, start: Start, tmp_path: Path
) -> None:
    ipython = tmp_path / "ipython"
    path = ipython / "profile_default/history.sqlite"
    name = install_spec("localhost", env={"IPYTHONDIR": str(ipython)})
    assert start(name).value(HISTORY) == str(path)
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        kernels = [start(name), start(name)]  # whether spawned or forked
        assert [kernel.value(HISTORY) for kernel in kernels] == [":memory:"] * 2
        assert kernels[0].value("6 * 7") == 42
        other.execute("ROLLBACK")
    assert start(name).value(HISTORY) == str(path)
    assert not list(path.parent.glob("*corrupt*"))  # IPython has not moved it away


@pytest.mark.usefixtures("home")
def test_a_history_that_hangs(
    install_spec: InstallSpec, start: Start, tmp_path: Path, slow_files: SlowFiles
) -> None:
    profile = tmp_path / "ipython/profile_default"
    profile.mkdir(parents=True)
    (profile / "history.sqlite").symlink_to(slow_files.directory / "history.sqlite")
    slow_files.late(None)
    name = install_spec("localhost", env={"IPYTHONDIR": str(tmp_path / "ipython")})
    assert start(name).value(HISTORY) == ":memory:"


def test_what_is_no_trouble(tmp_path: Path) -> None:
    assert history.trouble(str(tmp_path / "none")) == ""
    broken = tmp_path / "broken"
    broken.write_text("no database at all, and longer than the header of one" * 10)
    assert history.trouble(str(broken)) == ""  # IPython moves it away
    path = tmp_path / "history.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE sessions (session)")
        assert history.trouble(str(path)) == ""
        other.execute("BEGIN IMMEDIATE")
        assert "locked" in history.trouble(str(path))
