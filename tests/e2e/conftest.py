"""Applications of a test's own, and a browser."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from ..rig.docker import Docker, open_docker
from .applications import Applications
from .lab import EXTENSIONS


@pytest.fixture
def applications(home: Path, tmp_path: Path) -> Iterator[Applications]:
    with Applications(tmp_path) as opened:
        yield opened


@pytest.fixture
def browser() -> Iterator[Browser]:
    """Debian's Chromium, driven from outside."""
    path = shutil.which("chromium")
    missing = "" if path else "chromium is not installed (on Debian: chromium)"
    if not (EXTENSIONS / "@remote-provisioners/lab/package.json").exists():
        missing = "the user interface is not built: make ui"
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    with sync_playwright() as playwright:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]  # which it refuses to root
        opened = playwright.chromium.launch(executable_path=path, args=sandbox)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    with contextlib.ExitStack() as stack:
        try:
            opened = stack.enter_context(open_docker())
        except RuntimeError as error:
            pytest.skip(str(error))
        yield opened


@pytest.fixture
def pictures(request: pytest.FixtureRequest) -> Path:
    where = os.environ.get("TEST_PICTURES")
    return Path(where) if where else request.getfixturevalue("tmp_path") / "pictures"
