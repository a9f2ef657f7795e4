"""``jupyter remote cp``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_provisioners.cli.copy.words import Word, word

from ..conftest import InstallSpec
from ..rig import Host, Rig

COMMAND = [sys.executable, "-m", "remote_provisioners.cli.app", "cp"]
SECONDS = 120
MB = 10**6


@pytest.fixture
def host(rig: Rig, home: Path, install_spec: InstallSpec) -> Iterator[Host]:
    install_spec([host.target for host in rig.hosts])
    found = rig.hosts[0]
    found.run(["mkdir", "copies"])
    yield found
    found.run(["rm", "-rf", "copies"])


def cp(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, timeout=SECONDS, check=False
    )


def copied(*words: str) -> str:
    done = cp(*words)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return done.stderr


def test_files_and_directories_both_ways(rig: Rig, host: Host, tmp_path: Path) -> None:
    there = f"{host.target}:copies"
    data = tmp_path / "data"
    (data / "deep/deeper").mkdir(parents=True)
    (data / "deep/deeper/file").write_bytes(os.urandom(300_000))
    (data / "empty").write_bytes(b"")
    (data / "run me").write_text("#!/bin/sh\n")
    (data / "run me").chmod(0o750)
    (data / os.fsdecode(b"latin-\xe4")).write_bytes(b"x")
    (data / "link").symlink_to("run me")
    os.utime(data / "empty", (1_000_000_000, 1_000_000_000))

    assert copied("-r", str(data), f"{there}/") == ""
    assert host.run(["cat", "copies/data/run me"]) == "#!/bin/sh\n"
    assert host.run(["stat", "-c", "%a %Y", "copies/data/empty"]).split()[1] == "1000000000"
    assert host.run(["stat", "-c", "%A", "copies/data/run me"]).startswith("-rwxr-x")
    assert host.run(["cat", "copies/data/link"]) == "#!/bin/sh\n"

    back = tmp_path / "back"
    copied("-r", f"{there}/data", str(back))
    for name in ("deep/deeper/file", "empty", "run me", os.fsdecode(b"latin-\xe4")):
        assert (back / name).read_bytes() == (data / name).read_bytes()
    assert (back / "empty").stat().st_mtime == 1_000_000_000
    assert [path.name for path in back.rglob(".rp-*")] == []


@pytest.mark.long
def test_between_hosts_and_what_is_refused(rig: Rig, host: Host, tmp_path: Path) -> None:
    there = f"{host.target}:copies"
    data = tmp_path / "data"
    data.mkdir()
    (data / "empty").write_bytes(b"")
    host.write("copies/data/run me", "#!/bin/sh\n", 0o750)
    second = f"{rig.hosts[1].target}:"
    copied(f"{there}/data/run me", f"{second}between")
    assert rig.hosts[1].run(["cat", "between"]) == "#!/bin/sh\n"
    rig.hosts[1].run(["rm", "between"])

    for words, status, said in (
        ((str(data), there), 1, "it is a directory (copy it with -r)"),
        ((f"{there}/nosuch", str(tmp_path)), 1, "copies/nosuch: No such file or directory"),
        ((str(data / "empty"), f"{there}/nosuch/"), 1, "copies/nosuch: there is no such directory"),
        (
            (str(data / "empty"), f"{there}/nosuch/a"),
            1,
            "copies/nosuch: there is no such directory",
        ),
        (("-r", str(data), f"{there}/nosuch/a"), 1, "copies/nosuch: there is no such directory"),
        (
            (f"{there}/data/run me", str(tmp_path / "nosuch/a")),
            1,
            "nosuch: there is no such directory",
        ),
        ((str(data / "empty"), f"{host.target}:/proc/x"), 1, "/proc/x"),
        (("a", "b"), 2, "no word names a host"),
        (("a:b",), 2, "a SOURCE and a DESTINATION are needed"),
        (("nosuch.invalid:b", "."), 1, "nosuch.invalid"),
    ):
        done = cp(*words)
        assert done.returncode == status, done.stderr
        assert said in done.stderr


@pytest.mark.long
def test_an_interrupted_copy_continues(host: Host, tmp_path: Path) -> None:
    here, back = tmp_path / "large", tmp_path / "back"
    with here.open("wb") as file:
        for _ in range(200):
            file.write(os.urandom(MB))
    there = f"{host.target}:copies/large"
    with subprocess.Popen([*COMMAND, str(here), there]) as process:
        deadline = time.monotonic() + SECONDS
        while not (found := partial(host)) or found < 20 * MB:
            assert time.monotonic() < deadline
            assert process.poll() is None, "it was over too soon"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert 0 < partial(host) < 200 * MB
    copied(str(here), there)
    assert partial(host) == 0
    copied(there, str(back))
    assert here.read_bytes() == back.read_bytes()
    modified = back.stat().st_mtime_ns
    inode = back.stat().st_ino
    copied(there, str(back))  # it is there already
    assert (back.stat().st_mtime_ns, back.stat().st_ino) == (modified, inode)


def partial(host: Host) -> int:
    """The bytes of the copy in progress."""
    words = ["find", "copies", "-name", ".rp-*", "-printf", "%s"]
    return int(host.run(words, check=False) or 0)


@pytest.mark.long
def test_memory_does_not_grow_with_the_file(host: Host, tmp_path: Path) -> None:
    """A sparse file of 600 MB goes there and back through 64 MB of either side's memory."""
    here, back = tmp_path / "sparse", tmp_path / "back"
    with here.open("wb") as file:
        file.truncate(600 * MB)
    watch = (
        "import sys\n"
        "from remote_provisioners.cli.app import RemoteApp\n"
        "import remote_provisioners.hosts.transport.ssh\n"
        "def most():\n"
        "    with open('/proc/self/status') as status:\n"
        "        return next(int(line.split()[1]) for line in status if 'VmHWM' in line)\n"
        "with open('/proc/self/clear_refs', 'w') as memory: memory.write('5')\n"
        "before = most()\n"
        "try: RemoteApp.launch_instance(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end\n"
        "print(most() - before)"
    )
    there = f"{host.target}:copies/sparse"
    for words in ((str(here), there), (there, str(back))):
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", watch, "cp", *words],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        grown = int(done.stdout)
        speed = 600 / (time.monotonic() - began)
        print(f"{' '.join(words)}: {grown} kB more, {speed:.0f} MB/s")
        assert grown < 64 * 1024
    assert back.stat().st_size == 600 * MB


def test_a_terminal_shows_the_progress(host: Host, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(3 * MB))
    words = [*COMMAND, str(tmp_path / "file"), f"{host.target}:copies"]
    main, other = os.openpty()
    with subprocess.Popen(words, stderr=other, stdin=subprocess.DEVNULL) as process:
        os.close(other)
        shown = b""
        while True:
            try:
                piece = os.read(main, 4096)
            except OSError:  # the terminal is closed
                break
            if not piece:
                break
            shown += piece
    os.close(main)
    assert process.returncode == 0
    assert re.search(rb"\[####################\] 100 % 3\.0 MB of 3\.0 MB", shown), shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host:path", Word("host", "path")),
        ("me@host:/a:b", Word("me@host", "/a:b")),
        ("host:", Word("host", "")),
        ("[::1]:a", Word("[::1]", "a")),
        ("me@[::1]:a", Word("me@[::1]", "a")),
        ("./a:b", Word("", "./a:b")),
        ("dir/a:b", Word("", "dir/a:b")),
        ("plain", Word("", "plain")),
        ("/abs", Word("", "/abs")),
        (":a", Word("", ":a")),
    ],
)
def test_words(text: str, expected: Word) -> None:
    assert word(text) == expected


def test_paths_of_words() -> None:
    for path, absolute in (("", "/h"), ("~", "/h"), ("~/a", "/h/a"), ("a/./b", "/h/a/b")):
        assert Word("x", path).absolute("/h") == absolute
    assert Word("x", "/a").absolute("/h") == "/a"
