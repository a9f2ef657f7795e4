"""Where the agent moves what a user deletes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_provisioners.agent.files.operations import answer
from remote_provisioners.agent.files.places import PlaceError
from remote_provisioners.protocol.files import TRASH, FileRequest

from ..small_disk import fill, small_disk

OWN = f".Trash-{os.getuid()}"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory on another file system than the home directory."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs /dev/shm as a file system of its own")
    if (shared / OWN).exists():
        pytest.skip("somebody uses the trash of /dev/shm")
    with tempfile.TemporaryDirectory(dir=shared) as directory:
        yield Path(directory)
    if (shared / OWN).is_symlink():
        (shared / OWN).unlink()
    shutil.rmtree(shared / OWN, ignore_errors=True)


def trash(path: Path) -> None:
    root = str(path.parent)
    answer(FileRequest(op=TRASH, roots=[root], root=root, path=path.name, follow=False))


def test_names_in_the_trash_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    name = os.fsdecode(b"latin-\xe4 %" + b"x" * 240)
    for text in ("one", "two"):
        (tmp_path / name).write_text(text)
        trash(tmp_path / name)
    there = tmp_path / "data" / "Trash"
    assert sorted(path.read_text() for path in (there / "files").iterdir()) == ["one", "two"]
    notes = [path.read_text() for path in (there / "info").iterdir()]
    assert all(f"Path={tmp_path}/latin-%E4%20%25x" in note for note in notes)
    assert {path.name for path in (there / "files").iterdir()} == {
        path.name.removesuffix(".trashinfo") for path in (there / "info").iterdir()
    }


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be moved stays, and no note of it is left."""
    data = tmp_path / "data"
    with small_disk(data) as filling:
        monkeypatch.setenv("XDG_DATA_HOME", str(data))
        for name in ("first", "second"):
            (data / name).write_text("")
        trash(data / "first")
        fill(filling)
        with pytest.raises(PlaceError, match=r"no trash for it \(No space left on device\)"):
            trash(data / "second")
        assert (data / "second").exists()
        assert [path.name for path in (data / "Trash/info").iterdir()] == ["first.trashinfo"]


def test_a_home_directory_without_a_trash(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file on another file system goes to the trash there."""
    monkeypatch.setenv("XDG_DATA_HOME", "/proc/nowhere")
    (elsewhere / "a").write_text("")
    trash(elsewhere / "a")
    assert (Path("/dev/shm") / OWN / "files/a").exists()


def test_what_has_lost_its_note_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    there = tmp_path / "data" / "Trash"
    for text in ("one", "two"):
        (tmp_path / "a").write_text(text)
        trash(tmp_path / "a")
        for note in (there / "info").iterdir():
            note.unlink()
    assert sorted(path.read_text() for path in (there / "files").iterdir()) == ["one", "two"]


def test_another_file_system_has_its_own_trash(elsewhere: Path) -> None:
    (elsewhere / "a").write_text("a")
    trash(elsewhere / "a")
    assert (Path("/dev/shm") / OWN / "files" / "a").read_text() == "a"
    assert (Path("/dev/shm") / OWN).stat().st_mode & 0o777 == 0o700


def test_nothing_goes_to_the_trash_of_somebody_else(elsewhere: Path) -> None:
    theirs = elsewhere / "theirs"
    theirs.mkdir()
    (Path("/dev/shm") / OWN).symlink_to(theirs)
    (elsewhere / "a").write_text("a")
    with pytest.raises(PlaceError, match="no trash for it"):
        trash(elsewhere / "a")
    assert (elsewhere / "a").read_text() == "a"
    assert list(theirs.iterdir()) == []
