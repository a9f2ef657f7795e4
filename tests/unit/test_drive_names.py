"""Names of files on pages: each name has one form, and each form at most one name."""

from __future__ import annotations

import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from remote_provisioners.server.drive.models import time_of
from remote_provisioners.server.drive.names import drive_name, meant, shown

NAMES = st.binary(min_size=1).map(os.fsdecode)


@given(NAMES)
@example(os.fsdecode(b"latin-\xe4.txt"))
@example("\U0010fe41 \U0010feff")
@example("ä\N{SNOWMAN}")
def test_a_name_survives(name: str) -> None:
    form = shown(name)
    form.encode()  # it is text
    assert meant(form) == name


@given(st.text())
def test_a_form_has_at_most_one_name(form: str) -> None:
    try:
        name = meant(form)
    except ValueError:
        return
    assert shown(name) == form


def test_ordinary_names_stay() -> None:
    for name in ("a b.txt", "ä.ipynb", "日本", "%20", "\N{SNOWMAN}"):
        assert shown(name) == name
    with pytest.raises(ValueError, match="no name"):
        meant("\U0010fe41")  # an A that was escaped


def test_names_of_drives() -> None:
    assert drive_name("gpu1.example") == "gpu1.example"
    assert drive_name("[::1]") == "[--1]"
    assert ":" not in drive_name("ssh://me@host:22/")


def test_times_are_precise() -> None:
    assert time_of(1_700_000_000_123_456_789).isoformat() == "2023-11-14T22:13:20.123456+00:00"
