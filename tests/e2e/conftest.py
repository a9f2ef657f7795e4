"""Applications of a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .applications import Applications


@pytest.fixture
def applications(home: Path, tmp_path: Path) -> Iterator[Applications]:
    with Applications(tmp_path) as opened:
        yield opened
