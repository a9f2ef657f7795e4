"""Where a driver's engine is: read from its master and from yarn-site.xml, and asked."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path
from typing import Any

import pytest

import remote_provisioners

HERE = Path(remote_provisioners.__file__).parent / "kernelspecs/_spark/scripts/engine.py"


@pytest.fixture(scope="module")
def engine() -> Any:
    spec = importlib.util.spec_from_file_location("engine", HERE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def site(directory: Path, **values: str) -> dict[str, str]:
    """The environment of a site with these properties of yarn.resourcemanager."""
    rows = "".join(
        f"<property><name>yarn.resourcemanager.{name}</name><value> {value} </value></property>"
        for name, value in values.items()
    )
    (directory / "yarn-site.xml").write_text(f"<configuration>{rows}</configuration>")
    return {"HADOOP_CONF_DIR": str(directory)}


def test_masters_of_standalone(engine: Any) -> None:
    assert engine.addresses("spark://a:1,b:2", {}) == ["a:1", "b:2"]
    assert engine.addresses("local[2]", {}) == []


def test_resource_managers(engine: Any, tmp_path: Path) -> None:
    assert engine.addresses("yarn", site(tmp_path, hostname="a")) == ["a:8032"]
    assert engine.addresses("yarn", site(tmp_path, hostname="a", address="b:1")) == ["b:1"]
    two = {"ha.rm-ids": "x, y", "hostname.x": "a", "address.y": "b:1"}
    assert engine.addresses("yarn", site(tmp_path, **two)) == ["a:8032", "b:1"]


@pytest.mark.parametrize("text", ["", "<configuration/>", "<"])
def test_where_nothing_says_it(engine: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "yarn-site.xml").write_text(text)
    environ = {"HADOOP_CONF_DIR": str(tmp_path)}
    assert engine.addresses("yarn", environ) == []
    assert engine.silent("yarn", environ) == ""
    assert engine.addresses("yarn", {}) == []


def test_one_that_answers_is_enough(engine: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = f"127.0.0.1:{server.getsockname()[1]}"
        assert engine.silent(f"spark://127.0.0.1:1,{there}", {}) == ""
    said = engine.silent(f"spark://127.0.0.1:1,{there}", {})
    assert "127.0.0.1:1: " in said
    assert there in said
    assert "refused" in said
