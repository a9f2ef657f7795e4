"""The archive that hosts get: each module with its bytecode."""

from __future__ import annotations

import io
import marshal
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

from remote_provisioners.hosts import deploy_agent


def _files(code: CodeType) -> Iterator[str]:
    yield code.co_filename
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _files(constant)


def test_the_bytecode_belongs_to_the_sources() -> None:
    archive = zipfile.ZipFile(io.BytesIO(deploy_agent.agent_archive()))
    compiled = [name for name in archive.namelist() if name.endswith(".pyc")]
    assert len(compiled) > 50
    for name in compiled:
        code = marshal.loads(archive.read(name)[16:])
        path = name.removesuffix("c")
        assert code == compile(archive.read(path), path, "exec", dont_inherit=True, optimize=0)
        assert set(_files(code)) == {path}


def test_a_module_that_an_upgrade_replaces_is_compiled_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.py").write_text("value = 2")
    monkeypatch.setattr(deploy_agent, "_PACKAGE", tmp_path)
    for path in ("a.py", "removed.py"):
        names: dict[str, int] = {}
        exec(marshal.loads(deploy_agent._compiled(path, b"value = 1")[16:]), names)
        assert names["value"] == 1
