"""GPUs in the agent: who gets which, what the kernel is told, files that are not as expected."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from remote_provisioners.agent.machine import gpus as devices
from remote_provisioners.agent.machine.gpus import Held, NoDevicesError


def take(directory: Path, count: int, of: list[str], again: tuple[str, ...] = ()) -> Held:
    return asyncio.run(devices.take(str(directory), {"count": count, "devices": of}, again))


def taken(directory: Path) -> list[str]:
    return devices.taken(str(directory), os.listdir(directory))


@pytest.fixture(autouse=True)
def strict_umask() -> object:
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_no_device_twice(tmp_path: Path) -> None:
    four = ["0", "1", "2", "3"]
    first, second = take(tmp_path, 1, four), take(tmp_path, 2, four)
    assert (first.names, second.names) == (["0"], ["1", "2"])
    assert taken(tmp_path) == ["0", "1", "2"]
    with pytest.raises(
        NoDevicesError,
        match=r"^2 GPUs wanted, 1 of 4 free; held: 0 by pid \d+ of uid \d+, 1 by pid .*$",
    ):
        take(tmp_path, 2, four)
    third = take(tmp_path, 1, four)  # what was refused has let go of it
    assert third.names == ["3"]
    first.close()
    first.close()
    with pytest.raises(NoDevicesError, match=r"^5 GPUs wanted, 1 of 4 free; held: .*$"):
        take(tmp_path, 5, four)
    second.close()
    third.close()
    assert taken(tmp_path) == []


def test_the_same_again_in_the_order_of_the_host(tmp_path: Path) -> None:
    held = take(tmp_path, 2, ["0", "1", "2"], again=("2", "1", "9"))
    assert held.names == ["1", "2"]
    other = take(tmp_path, 1, ["0", "1"], again=("1",))
    assert other.names == ["0"]
    held.close()
    other.close()


def test_who_wants_none_opens_nothing(tmp_path: Path) -> None:
    for gpus in ({}, {"count": 0, "devices": ["0"]}, {"count": None}):
        assert asyncio.run(devices.take(str(tmp_path), gpus)).names == []
    assert os.listdir(tmp_path) == []


def test_a_device_named_twice_is_one(tmp_path: Path) -> None:
    with pytest.raises(NoDevicesError, match=r"^2 GPUs wanted, 1 of 1 free$"):
        take(tmp_path, 2, ["0", "0"])


def test_names_are_made_safe_and_stay_different(tmp_path: Path) -> None:
    names = ["GPU-8a56", "../x", "a/b", "a_b", "a%2Fb", "é", "\udce9"]
    held = take(tmp_path, len(names), names)
    assert held.names == names
    assert len(os.listdir(tmp_path)) == len(names)
    assert set(taken(tmp_path)) >= {"../x", "a/b", "a%2Fb", "GPU-8a56"}
    held.close()


def test_every_user_can_open_the_file(tmp_path: Path) -> None:
    held = take(tmp_path, 1, ["0"])
    held.close()
    path = tmp_path / "remote-provisioners-gpu-0.lock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_a_file_that_is_cleaned_away_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removed between our opening and our locking it: the lock would be nobody else's."""
    path = tmp_path / "remote-provisioners-gpu-0.lock"
    opened = devices._opened

    def removed_once(name: str) -> int:
        descriptor = opened(name)
        monkeypatch.setattr(devices, "_opened", opened)
        path.unlink()
        return descriptor

    monkeypatch.setattr(devices, "_opened", removed_once)
    held = take(tmp_path, 1, ["0"])
    assert os.path.samestat(os.fstat(held.descriptors[0]), path.stat())
    held.close()


def test_a_link_is_not_followed_and_its_device_not_given(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    (tmp_path / "remote-provisioners-gpu-0.lock").symlink_to(target)
    held = take(tmp_path, 1, ["0", "1"])
    assert held.names == ["1"]
    assert not target.exists()
    held.close()


def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "remote-provisioners-gpu-0.lock")
    take(tmp_path, 1, ["0"]).close()
    assert taken(tmp_path) == []


def test_no_directory_is_an_error_of_the_host(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        take(tmp_path / "gone", 1, ["0"])


def test_what_the_kernel_is_told() -> None:
    host = {"count": 0, "devices": ["0", "1"]}
    name = "CUDA_VISIBLE_DEVICES"
    assert devices.variables(host, Held(["0", "1"]), {name: "7"}) == {name: "0,1"}
    assert devices.variables(host, Held(), {}) == {name: ""}
    assert devices.variables(host, Held(), {name: "7"}) == {}
    assert devices.variables({}, Held(), {}) == {}
