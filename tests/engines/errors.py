"""What users are told: the doctor's findings, and errors of starts."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from remote_provisioners.errors import RemoteProvisionerError

from ..conftest import Start


def doctor(name: str, *options: str) -> tuple[int, str]:
    """The doctor's exit code and what it says of a kernelspec."""
    words = [sys.executable, "-m", "remote_provisioners.cli.app", "doctor", name, *options]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def failure(start: Start, name: str) -> RemoteProvisionerError:
    """The error of a start, on short lines and soon."""
    began = time.monotonic()
    with pytest.raises(RemoteProvisionerError) as caught:
        start(name)
    assert time.monotonic() - began < 30
    for line in str(caught.value).splitlines():
        assert len(line) <= 130, line
    return caught.value
