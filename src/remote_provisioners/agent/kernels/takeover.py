"""Takes over the kernels of a killed agent, and removes what else it left.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from typing import Dict, List, Optional

from ..log import say
from ..processes.process_identity import leaders_in
from . import kernel_record as record
from .hosted_kernel import HostedKernel

#: After this time, records that still cannot be read are left alone.
_GIVEN_UP_SECONDS = 30.0


class Takeover:
    """Goes through the records in a directory until it has read or given up each of them.

    A record that cannot be read may be readable a moment later (no descriptor was free, the disk
    was slow). Its kernel runs meanwhile.
    """

    def __init__(self, kernels_directory: str) -> None:
        self._directory = kernels_directory
        self._since = time.monotonic()
        #: The names of the directories still to read; None: the list itself was not read yet.
        self._names: Optional[List[str]] = None
        self._found: Dict[str, str] = {}
        #: Why something could not be read.
        self.error = ""

    @property
    def over(self) -> bool:
        """Whether nothing is left to read."""
        return self._names == []

    def look(self) -> List[HostedKernel]:
        """The kernels of the records that can be read now, both running and ended ones.

        A directory without a usable record means that the agent was killed while it started a
        kernel, or that somebody else changed the files. Processes there have no owner and nobody
        can reach them, so they are killed.
        """
        taken: List[HostedKernel] = []
        left: List[str] = []
        try:
            if self._names is None:
                # Of two directories for one kernel the first wins: warm ones sort last.
                self._names = sorted(os.listdir(self._directory))
        except OSError as error:
            self._not_now(self._directory, error)
            return taken
        for name in self._names:
            try:
                taken += self._read(os.path.join(self._directory, name))
            except OSError as error:
                left.append(name)
                self._not_now(name, error)
        self._names = left
        if left and time.monotonic() - self._since > _GIVEN_UP_SECONDS:
            say("not taken over: {}: {}".format(", ".join(left), self.error))
            self._names = []
        return taken

    def _not_now(self, what: str, error: OSError) -> None:
        self.error = "{}: {}".format(os.path.basename(what), error.strerror or error)

    def _read(self, directory: str) -> List[HostedKernel]:
        """The kernel of a directory, or nothing. Raises OSError when it cannot be read now."""
        try:
            kernel = HostedKernel.recorded(record.read(directory), directory)
            other = self._found.setdefault(kernel.kernel_id, directory)
            if other != directory:
                text = "{} names the kernel of {}"
                raise record.RecordError(text.format(directory, other))
        except FileNotFoundError:
            _clear(directory, "its start was not over, or it was a warm kernel")
        except record.RecordError as error:
            _clear(directory, "not taken over: {}".format(error))
        else:
            _say(kernel)
            return [kernel]
        return []


def _say(kernel: HostedKernel) -> None:
    process = kernel.process
    assert process is not None
    what = "taken over" if kernel.running else "found ended ({})".format(process.tail()[-200:])
    say("kernel {} (pid {}): {}".format(kernel.kernel_id, process.pid, what))


def _clear(directory: str, why: str) -> None:
    """Kill the processes of a directory and remove it. Raises OSError."""
    pids = list(leaders_in(directory))
    for pid in pids:
        try:
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
    ended = ", ".join(str(pid) for pid in pids) or "none"
    name = os.path.basename(directory)
    say("kernel {}: {}; processes ended: {}".format(name, why, ended))
    shutil.rmtree(directory, ignore_errors=True)
