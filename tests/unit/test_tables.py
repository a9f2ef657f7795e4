"""Tables of the command line."""

from __future__ import annotations

import pytest

from remote_provisioners.cli.table import GREEN, Column, Table, Terminal

COLUMNS = [
    Column("KERNEL", 36, least=8),
    Column("STATE", 6, colours={"up": GREEN}),
    Column("PID", 7, rank=1),
    Column("AGE", 5, rank=2),
    Column("NOTE"),
]
ROW = ["0123456789abcdef", "up", "4711", "2 min", "its lease of 6 s ran out"]


def test_without_a_terminal_nothing_is_cut_and_nothing_is_coloured() -> None:
    table = Table(COLUMNS, Terminal())
    assert table.row(["x" * 50, *ROW[1:]]).startswith("x" * 50 + "  up")
    assert table.row(ROW).endswith("ran out")
    assert table.header.index("STATE") == table.row(ROW).index("up")
    assert "\x1b" not in table.header + table.row(ROW)


def test_a_narrow_terminal_gets_short_texts_then_fewer_columns() -> None:
    assert Table(COLUMNS, Terminal(100)).row(ROW).startswith("0123456789abcdef ")
    assert Table(COLUMNS, Terminal(50)).header.split() == [
        "KERNEL",
        "STATE",
        "PID",
        "AGE",
        "NOTE",
    ]
    assert Table(COLUMNS, Terminal(50)).row(ROW).startswith("01234567  up")
    assert Table(COLUMNS, Terminal(34)).header.split() == ["KERNEL", "STATE", "PID", "NOTE"]
    assert Table(COLUMNS, Terminal(24)).header.split() == ["KERNEL", "STATE", "NOTE"]


@pytest.mark.parametrize("width", [*range(1, 60)])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    table = Table(COLUMNS, Terminal(width))
    assert len(table.row(ROW)) <= width
    assert len(table.header) <= width


def test_what_is_cut_ends_with_a_sign() -> None:
    assert Table(COLUMNS, Terminal(40)).row(ROW).endswith("…")


def test_colours_take_no_room() -> None:
    table = Table(COLUMNS, Terminal(60, coloured=True))
    assert "\x1b[32mup\x1b[0m      4711" in table.row(ROW)
    assert table.header.startswith("\x1b[1mKERNEL")


def test_when_there_is_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert Terminal.of_stdout().coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Terminal.of_stdout().coloured
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not Terminal.of_stdout().coloured
