"""Why YARN has ended an application, as sentences for users."""

from __future__ import annotations

import pytest

from remote_provisioners.engines.yarn.ends import why_ended

MEMORY = """\
Application application_1_0001 failed 1 times due to AM Container for appattempt_1_0001_000001
exited with  exitCode: -104
Failing this attempt.Diagnostics: [2026-11-27 23:38:07.982]Container [pid=579,containerID=c_1] is
running 186691584B beyond the 'PHYSICAL' memory limit. Current usage: 1.0 GB of 896 MB physical
memory used; 5.0 GB of 1.8 GB virtual memory used. Killing container.
Dump of the process-tree for c_1 :
	|- 621 614 621 621 (python) 34 31 1911578624 207224 /opt/python cluster.py
"""


@pytest.mark.parametrize(
    ("diagnostics", "text"),
    [
        (MEMORY, "it used more memory than its container has (1.0 GB of 896 MB)\nRestart"),
        ("exited with  exitCode: -102\nContainer preempted by scheduler", "preemption"),
        ("exited with  exitCode: -100\nContainer released on a *lost* node", "its node was lost"),
        ("exited with  exitCode: 13\nUser class threw", "exited with  exitCode: 13\nUser class"),
        ("exitCode: 1\nDump of the process-tree for c : x", "exitCode: 1"),
        ("", "YARN gives no reason"),
    ],
)
def test_why_yarn_ended_an_application(diagnostics: str, text: str) -> None:
    said = why_ended(diagnostics)
    assert text in said
    assert "process-tree" not in said
    assert all(len(line) <= 90 for line in said.splitlines())
