"""The texts of errors have short lines, because JupyterLab's dialog breaks none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_provisioners.errors import (
    LINE_WIDTH,
    HostError,
    KernelStartError,
    ProgramNotFoundError,
    RemoteProvisionerError,
    in_lines,
)

from ..conftest import assert_readable


@given(st.text(st.characters(codec="ascii", exclude_characters="\r\x0b\x0c\x1c\x1d\x1e")))
def test_lines_are_short_and_no_word_is_lost(text: str) -> None:
    found = in_lines(text)
    assert found.split() == text.split()
    assert in_lines(found) == found
    for line in found.splitlines():
        assert len(line) <= LINE_WIDTH or " " not in line.strip()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("short", ["short"]),
        ("", []),
        ("a sentence of some greater length that ends here. " + "word " * 12 + "and a bit", None),
        (
            "    File x: " + "y" * 30 + " " + "z" * 60,
            ["    File x: " + "y" * 30, "    " + "z" * 60],
        ),
        (" " * 200 + "word", ["", " " * 45 + "word"]),
        ("see " + "/path" * 30 + " there", ["see", "/path" * 30, "there"]),
    ],
)
def test_where_lines_are_broken(text: str, lines: list[str] | None) -> None:
    if lines is None:
        first, _, rest = text.partition(". ")
        lines = [first + ".", rest]
    assert in_lines(text).splitlines() == lines


@pytest.mark.parametrize("kind", [HostError, KernelStartError, ProgramNotFoundError])
def test_every_error_has_such_lines(kind: type[RemoteProvisionerError]) -> None:
    error = kind("100 % of the words are here " * 10, host="gpu-node-with-a-long-name.example.org")
    assert_readable(error)
    assert_readable(error.at("another"))
    assert error.message == "100 % of the words are here " * 10
