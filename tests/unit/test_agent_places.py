"""No path leads out of the directories that a server may use, whatever links are there."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from remote_provisioners.agent.files.operations import answer
from remote_provisioners.agent.files.places import PlaceError, Roots
from remote_provisioners.protocol.files import DENIED, FILE, REMOVE, STAT, TRASH, FileRequest

NAMES = st.sampled_from(["a", "b", "c", "d"])
TARGETS = st.lists(
    st.sampled_from(["a", "b", "c", "d", "..", ".", "", "/", "root", "other"]), max_size=7
).map("/".join)
ANY_PATH = st.one_of(
    st.lists(st.sampled_from(["a", "b", "c", "d", "..", ".", "", "\0", "root"]), max_size=6).map(
        "/".join
    ),
    st.text(max_size=30),
    st.binary(max_size=30).map(os.fsdecode),
)


class Tree:
    """A root with directories and links, and something outside."""

    def __init__(self, base: Path, links: list[tuple[list[str], str, str]]) -> None:
        self.base = base
        self.root, self.other = base / "root", base / "other"
        (base / "outside").mkdir()
        (base / "outside/secret").write_text("secret")
        for directory in (self.root / "a/b", self.root / "c", self.other / "d"):
            directory.mkdir(parents=True)
        (self.root / "a/b/c").write_text("inside")
        for parents, name, target in links:
            with suppress(OSError, ValueError):
                where = self.root.joinpath(*parents) / name
                absolute = target.startswith("/")
                os.symlink(f"{base}{target}" if absolute else target or ".", where)

    def inside(self, path: str) -> bool:
        roots = [os.path.realpath(root) for root in (self.root, self.other)]
        return any(path == root or path.startswith(f"{root}/") for root in roots)


@given(
    st.lists(st.tuples(st.lists(NAMES, max_size=2), NAMES, TARGETS), max_size=6),
    ANY_PATH,
    st.booleans(),
)
@example([([], "b", "/outside")], "b/secret", True)
@example([([], "b", "../outside/secret")], "b", True)
@example([(["a"], "d", "../../other/d")], "a/d", True)
@example([], "x" * 4096, True)
@example([([], "d", "d")], "d/d", True)
def test_a_place_is_inside(
    links: list[tuple[list[str], str, str]], path: str, follow: bool
) -> None:
    with tempfile.TemporaryDirectory() as base:
        tree = Tree(Path(base), links)
        roots = Roots([str(tree.root), str(tree.other)])
        before = len(os.listdir("/proc/self/fd"))
        with (
            suppress(PlaceError, OSError, ValueError),
            roots.place(str(tree.root), path, follow) as place,
        ):
            directory = os.readlink(f"/proc/self/fd/{place.directory}")
            assert tree.inside(directory), (directory, place.name)
            assert "/" not in place.name
            assert place.name != ".."
            with suppress(OSError):
                descriptor = place.open(os.O_RDONLY | os.O_NONBLOCK)
                assert tree.inside(os.readlink(f"/proc/self/fd/{descriptor}"))
                os.close(descriptor)
        assert len(os.listdir("/proc/self/fd")) == before


@given(ANY_PATH, st.sampled_from([STAT, REMOVE, TRASH]))
def test_an_operation_leaves_what_is_outside(path: str, operation: str) -> None:
    with tempfile.TemporaryDirectory() as base:
        links = [([], "d", "/outside"), (["a"], "d", "../../outside"), ([], "b", "a/b/c")]
        tree = Tree(Path(base), links)
        root = str(tree.root)
        request = FileRequest(op=operation, roots=[root], root=root, path=path, recursive=True)
        data = {"XDG_DATA_HOME": f"{base}/data"}
        with patch.dict(os.environ, data), suppress(PlaceError, OSError, ValueError):
            answer(request)
        assert (tree.base / "outside/secret").read_text() == "secret"
        assert tree.root.is_dir()


@pytest.fixture
def exchanged(tmp_path: Path) -> Iterator[Tree]:
    """Somebody exchanges a directory for a link that leads out, and back, all the time."""
    tree = Tree(tmp_path, [])
    (tree.root / "a/secret").write_text("inside")
    over = threading.Event()

    def exchange() -> None:
        victim, spare = tree.root / "a", tree.root / "spare"
        link = tree.root / "link"
        while not over.is_set():
            link.symlink_to(tree.base / "outside")
            victim.rename(spare)
            link.rename(victim)
            victim.unlink()
            spare.rename(victim)

    thread = threading.Thread(target=exchange)
    thread.start()
    yield tree
    over.set()
    thread.join()


def test_what_is_exchanged_meanwhile_leads_nowhere(exchanged: Tree) -> None:
    roots = Roots([str(exchanged.root)])
    read = tried = 0
    deadline = time.monotonic() + 20
    while (not read or tried < 3000) and time.monotonic() < deadline:
        tried += 1
        try:
            with roots.place(str(exchanged.root), "a/secret") as place:
                with open(place.open(os.O_RDONLY)) as file:
                    assert file.read() == "inside"
                read += 1
        except (PlaceError, OSError):
            continue
    assert read


def test_the_root_itself_stays(tmp_path: Path) -> None:
    root = str(tmp_path)
    for path in ("", "/", ".", "./."):
        with pytest.raises(PlaceError) as error:
            answer(FileRequest(op=REMOVE, roots=[root], root=root, path=path, recursive=True))
        assert error.value.code == DENIED
    (tmp_path / "f").write_text("x")
    found = answer(FileRequest(op=STAT, roots=[root], root=root, path="f")).entry
    assert found is not None
    assert (found.kind, found.size) == (FILE, 1)
