"""A JSON file that is replaced as a whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from remote_provisioners import json_file
from remote_provisioners.server.restore.records import Records

from .test_records import LOG, record


@pytest.fixture(autouse=True)
def ordinary_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_the_records_of_kernels_can_use_the_new_directory(tmp_path: Path) -> None:
    """A notebook that ran without a server, or `jupyter remote environments`, may come first."""
    parent = tmp_path / "data" / "remote-provisioners"
    json_file.replace(parent / "transports.json", {"transports": {}})
    assert parent.stat().st_mode & 0o777 == 0o700
    with closing(Records(parent, LOG)) as records:
        records.write(record())
        assert list(parent.glob("*/*.json"))
        records.remove("k1")


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_names_that_are_no_text_and_names_that_are(tmp_path: Path, mode: int) -> None:
    content = {"path": "/opt/\udce9t\udce9", "name": "Umgebung f\u00fcr alle \U0001f600"}
    json_file.replace(tmp_path / "file", content, mode)
    assert json.loads((tmp_path / "file").read_text("utf-8")) == content
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode
    assert os.listdir(tmp_path) == ["file"]
