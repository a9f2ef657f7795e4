"""What a way in has said becomes one error, with the cause in its class."""

from __future__ import annotations

import pytest

from remote_provisioners.errors import HostError, RunAsError, UnreachableError, UnusablePythonError
from remote_provisioners.hosts.transport.openssh import own_words
from remote_provisioners.hosts.transport.pipe_errors import why_not_opened
from remote_provisioners.hosts.transport.pipe_start import NotOpened
from remote_provisioners.placement.way_in import OPENSSH, WayIn

AS_BOB = WayIn(OPENSSH, run_as="bob", become=("sudo", "-n", "-u", "bob", "-H", "--"))


@pytest.mark.parametrize(
    ("way", "stderr", "returncode", "error", "text"),
    [
        (AS_BOB, "sudo: a password is required", 1, RunAsError, "(sudo: a password is required)"),
        (AS_BOB, "bash: line 1: sudo: command not found", 127, RunAsError, "command not found"),
        (AS_BOB, "doas: Operation not permitted", 1, RunAsError, "doas: Operation not permitted"),
        (AS_BOB, "sudo: python3: command not found", 1, UnusablePythonError, "no Python"),
        (AS_BOB, "  File x\nSyntaxError: invalid", 1, UnusablePythonError, "is too old"),
        (WayIn(OPENSSH), "bash: python3: command not found", 127, UnusablePythonError, "no Python"),
        (WayIn(OPENSSH), "account expired", 1, UnreachableError, "it says: account expired"),
    ],
)
def test_the_class_of_an_error(
    way: WayIn, stderr: str, returncode: int, error: type[HostError], text: str
) -> None:
    made = why_not_opened(NotOpened("it has ended", "", stderr, returncode), way, "python3")
    assert type(made) is error
    assert text in str(made)


def test_words_that_ssh_has_cut_in_two() -> None:
    verbose = (
        "OpenSSH_9.2p1\r\ndebug1: Sending command\r\nsudodebug1: client_input_channel_req\r\n"
        ": a password is required\ndebug1: Exit status 1"
    )
    assert own_words(verbose) == "sudo: a password is required"
