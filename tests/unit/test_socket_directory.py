"""Which directories of sockets a process removes from a directory that other users can write."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from remote_provisioners.kernels import socket_directory
from remote_provisioners.kernels.socket_directory import SocketDirectory


@pytest.fixture
def abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a killed process."""
    monkeypatch.setattr(socket_directory, "_parents", lambda: iter([tmp_path]))
    path = tmp_path / "rp-12345678"
    path.mkdir(0o700)
    (path / "k-shell").symlink_to("/nowhere")
    return path


def test_the_directory_of_a_killed_process_is_removed(abandoned: Path) -> None:
    SocketDirectory().remove()
    assert not abandoned.exists()


def test_a_directory_with_other_files_is_kept(abandoned: Path) -> None:
    (abandoned / "notes.txt").touch()
    SocketDirectory().remove()
    assert len(os.listdir(abandoned)) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can create another user's directory")
def test_another_users_directory_is_kept(abandoned: Path) -> None:
    os.chown(abandoned, 12345, 12345)
    SocketDirectory().remove()
    assert os.listdir(abandoned)


def test_a_path_that_became_a_link_is_not_followed(
    abandoned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user can replace the directory while this process looks at it."""
    victim = abandoned.with_name("victim")
    victim.mkdir()
    (victim / "S01link").symlink_to("/etc/passwd")
    lock, looked_at = fcntl.flock, abandoned.stat()

    def replacing(descriptor: int, flags: int) -> None:
        lock(descriptor, flags)
        if os.path.samestat(os.fstat(descriptor), looked_at):
            abandoned.rename(abandoned.with_name("elsewhere"))
            abandoned.symlink_to(victim)

    monkeypatch.setattr(fcntl, "flock", replacing)
    SocketDirectory().remove()
    assert os.listdir(victim) == ["S01link"]
