"""Records of kernels: what is written, who may take it, what is refused."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from remote_provisioners.server.restore import records as module
from remote_provisioners.server.restore.record import Record
from remote_provisioners.server.restore.records import Records

from ..conftest import eventually
from ..small_disk import fill, small_disk

LOG = logging.getLogger("test")


def record(kernel_id: str = "k1", root: str = "/here", **changes: Any) -> Record:
    info = {
        "kernel_id": kernel_id,
        "host": "host1",
        "pid": 7,
        "host_connection": {"key": "secret"},
        "connection_info": {"key": "secret"},
    }
    return Record(kernel_id, "remote", root, {**info, **changes})


Opened = Callable[[], Records]


@pytest.fixture
def opened(parent: Path) -> Iterator[Opened]:
    """A server that comes, closed in the end."""
    with ExitStack() as stack:

        def opened() -> Records:
            records = Records(parent, LOG)
            stack.callback(records.close)
            return records

        yield opened


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    return tmp_path / "data" / "remote-provisioners"


WRITER = """
import logging, sys
from pathlib import Path
from tests.unit.test_records import LOG, record
from remote_provisioners.server.restore.records import Records
records = Records(Path(sys.argv[1]), LOG)
for kernel_id in sys.argv[2:]:
    records.write(record(kernel_id))
print("written", flush=True)
sys.stdin.read()
"""


def write_and_die(parent: Path, *kernel_ids: str) -> None:
    """A server process that is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(parent), *kernel_ids],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.kill()


def files(parent: Path) -> list[Path]:
    return sorted(parent.glob("*/*.json"))


def test_a_killed_servers_records_are_taken_once(parent: Path, opened: Opened) -> None:
    write_and_die(parent, "k1", "k2")
    write_and_die(parent, "k3")
    one, two = opened(), opened()
    assert sorted(found.kernel_id for found in one.adopt("/here")) == ["k1", "k2", "k3"]
    assert two.adopt("/here") == []
    assert one.adopt("/here") == []  # its own are no predecessor's
    assert len(files(parent)) == 3
    one.remove("k1")
    one.close()
    found = two.adopt("/here")
    assert sorted(found, key=lambda found: found.kernel_id) == [record("k2"), record("k3")]
    for kernel_id in ("k2", "k3"):
        two.remove(kernel_id)
    two.close()
    assert list(parent.iterdir()) == []


def test_of_many_at_once_each_record_has_one_taker(parent: Path) -> None:
    names = [f"k{number}" for number in range(20)]
    write_and_die(parent, *names)
    code = """
import sys
from pathlib import Path
from tests.unit.test_records import LOG
from remote_provisioners.server.restore.records import Records
records = Records(Path(sys.argv[1]), LOG)
sys.stdin.readline()
print(*[found.kernel_id for found in records.adopt("/here")], flush=True)
sys.stdin.read()
"""
    takers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(4)
    ]
    for taker in takers:
        assert taker.stdin is not None
        taker.stdin.write("now\n")
        taker.stdin.flush()
    taken = [taker.stdout.readline().split() for taker in takers if taker.stdout]
    for taker in takers:
        taker.communicate()
    assert sorted(name for names in taken for name in names) == sorted(names)


def test_another_directorys_kernels_stay(parent: Path, opened: Opened) -> None:
    write_and_die(parent, "k1")
    other = opened()
    assert other.adopt("/elsewhere") == []
    other.close()
    assert [found.kernel_id for found in opened().adopt("/here")] == ["k1"]


def test_modes_and_changes(parent: Path, opened: Opened) -> None:
    records = opened()
    records.write(record())
    (path,) = files(parent)
    assert [p.stat().st_mode & 0o777 for p in (path, path.parent, parent)] == [0o600, 0o700, 0o700]
    inode = path.stat().st_ino
    records.write(record())
    assert path.stat().st_ino == inode  # nothing has changed, nothing is written
    records.write(record(pid=8))
    assert json.loads(path.read_text())["info"]["pid"] == 8
    assert "secret" not in repr(record())
    records.remove("k1")
    records.close()
    assert list(parent.iterdir()) == []


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def of_another_version(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))


def without_a_host(path: Path) -> None:
    found = json.loads(path.read_text())
    del found["info"]["host"]
    path.write_text(json.dumps(found))


def of_another_kernel(path: Path) -> None:
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, "kernel_id": "other"}))


def a_list(path: Path) -> None:
    path.write_text("[1]")


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


def readable(path: Path) -> None:
    path.chmod(0o644)


def a_link(path: Path) -> None:
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def another_users(path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root: gives a file to another user")
    os.chown(path, 12345, 12345)


def doing_what_nobody_knows(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "doing": "dance"}))


BAD = {
    doing_what_nobody_knows: "it has no usable doing",
    truncated: "it is not JSON: half-written, or damaged",
    of_another_version: "it is not a record of version 1",
    without_a_host: "it has no usable info.host",
    of_another_kernel: "it has no usable info.kernel_id",
    a_list: "it is not a record of version 1",
    binary: "it is not JSON",
    readable: "it is open to others (mode 0644)",
    a_link: "Too many levels of symbolic links",
    a_pipe: "it has the wrong file type",
    another_users: "it belongs to uid 12345, not to us (uid 0)",
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_a_bad_record_is_named_and_the_good_ones_are_taken(
    parent: Path, opened: Opened, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    write_and_die(parent, "k1", "k2")
    (bad,) = (path for path in files(parent) if json.loads(path.read_text())["kernel_id"] == "k1")
    spoil(bad)
    records = opened()
    assert [found.kernel_id for found in records.adopt("/here")] == ["k2"]
    (line,) = caplog.messages
    assert line.startswith(f"record of kernels {bad}: not used: {BAD[spoil]}")
    assert "secret" not in line
    assert os.path.lexists(bad)


@pytest.mark.parametrize("which", ["of a server", "of all"])
def test_a_directory_that_others_can_enter(
    parent: Path, opened: Opened, which: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_and_die(parent, "k1")
    write_and_die(parent, "k2")
    bad = parent if which == "of all" else files(parent)[0].parent
    bad.chmod(0o755)
    found = opened().adopt("/here")
    assert len(found) == (0 if which == "of all" else 1)
    (line,) = caplog.messages
    assert line.startswith(f"record of kernels {bad}: not used: it is open to others (mode 0755)")


def test_a_server_that_lives_keeps_its_own(parent: Path, opened: Opened) -> None:
    opened().write(record())
    assert opened().adopt("/here") == []
    assert len(files(parent)) == 1


def test_half_written_drafts_are_removed(parent: Path, opened: Opened) -> None:
    write_and_die(parent, "k1")
    (path,) = files(parent)
    path.with_suffix(".draft").write_text("{")
    assert len(opened().adopt("/here")) == 1
    assert not list(parent.glob("*/*.draft"))


def test_other_files_of_this_package_are_no_records(
    parent: Path, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    write_and_die(parent, "k1")
    for name in ("transports.json", "environments.json", "identity.pem", ".new-0123456789abcdef"):
        (parent / name).write_text("{}")
    assert len(opened().adopt("/here")) == 1
    assert caplog.messages == []


def test_nothing_there(parent: Path, opened: Opened) -> None:
    assert opened().adopt("/here") == []
    assert not parent.exists()


def test_servers_that_look_at_the_same_moment_all_find_their_own(
    parent: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one looks at a directory, which it leaves, it is not that of a living server."""
    write_and_die(parent, "k1", "k2")
    parse, looking = Record.parse, threading.Event()

    def slowly(content: bytes) -> Record:
        looking.set()
        time.sleep(0.2)
        return parse(content)

    monkeypatch.setattr(Record, "parse", slowly)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(opened().adopt, "/elsewhere")
        assert looking.wait(10)
        assert {found.kernel_id for found in opened().adopt("/here")} == {"k1", "k2"}
        assert other.result() == []


@pytest.mark.parametrize("begun", [True, False])
def test_a_full_disk(
    parent: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    """What cannot be written is known meanwhile, and written when there is room."""
    monkeypatch.setattr(module, "_AGAIN_SECONDS", 0.05)
    with small_disk(parent.parent) as filling:
        records = opened()
        if begun:
            records.write(record("k1"))
        fill(filling)
        changed = record("k1", root="/there")
        with pytest.raises(OSError, match="No space left"):
            records.write(changed)
        with pytest.raises(OSError, match="No space left"):
            records.write(record("k2"))
        assert records.get("k1") == changed
        assert {found.kernel_id for found in records} == {"k1", "k2"}
        records.remove("k2")
        filling.unlink()
        eventually(lambda: [found for _, found in module.all_records(parent)] == [changed])
        assert records.get("k1") == changed
        assert not list(parent.glob("*.new"))
        records.close()


def test_the_directory_is_removed_under_a_running_server(parent: Path, opened: Opened) -> None:
    records = opened()
    records.write(record("k1"))
    shutil.rmtree(parent)
    records.write(record("k2"))
    assert {found.kernel_id for _, found in module.all_records(parent)} == {"k1", "k2"}
    assert opened().adopt("/here") == []  # they are a living server's
