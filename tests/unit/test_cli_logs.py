"""What `jupyter remote logs -f` prints of what it has read, time after time."""

from __future__ import annotations

from remote_provisioners.cli.command import meant
from remote_provisioners.cli.kernels.logs import news
from remote_provisioners.protocol.answers import Output


def test_what_is_new_is_what_comes_after_what_was_printed() -> None:
    assert news("", "one\n") == "one\n"
    assert news("one\n", "one\ntwo\n") == "two\n"
    assert news("one\n", "one\n") == ""


def test_a_host_that_has_dropped_the_oldest_has_no_line_printed_twice() -> None:
    lines = [f"line {number}\n" for number in range(2000)]
    before, now = "".join(lines[:1500]), "".join(lines[700:])
    assert news(before, now) == "".join(lines[1500:])
    assert news("something else\n", "".join(lines)) == "".join(lines)


def test_an_older_agent_tells_no_position() -> None:
    answer = Output.read({"output": "all"})
    assert (answer.output, answer.end, answer.ended) == ("all", -1, False)


def test_a_word_that_is_nearly_right_is_recognized() -> None:
    assert meant("kernel", ["kernels", "hosts"]) == "; did you mean 'kernels'?"
    assert meant("xyz", ["kernels", "hosts"]) == ""
