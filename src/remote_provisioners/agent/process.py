"""One process of a kernel: spawned from data in a session of its own, its end noticed and reaped.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import Mapping, Optional, Sequence

#: What is kept of a kernel's output, and what of it goes into an error message.
LOG_LIMIT = 1024 * 1024
TAIL_BYTES = 4096
TAIL_LINES = 20


class KernelProcess:
    """A running kernel: its process group, its output file and, in the end, its exit code.

    `returncode` is None while it runs; negative for the signal that ended it.
    """

    def __init__(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        cwd: str,
        log_path: str,
        descriptors: Sequence[int] = (),
    ) -> None:
        """Start it; it inherits `descriptors`.

        Raises OSError (with the cause in errno) when it cannot be executed.
        """
        self.log_path = log_path
        log = os.open(log_path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            # Output goes to a file, not a pipe: a kernel must survive whoever would read a pipe.
            self._popen = subprocess.Popen(
                list(argv),
                env=dict(environ),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=descriptors,
            )
        finally:
            os.close(log)
        self.pid = self._popen.pid
        #: Seconds since the epoch.
        self.started = time.time()
        self.returncode: Optional[int] = None

    def signal(self, signum: int) -> bool:
        """Signal the whole process group; False when the kernel has ended already."""
        if self.returncode is not None:
            return False
        try:
            os.killpg(self.pid, signum)
        except ProcessLookupError:
            return False
        return True

    def reap(self) -> Optional[int]:
        """The exit code once the process has ended, None before. Ends what it left behind.

        The rest of the group is killed while the ended leader still holds the group's number,
        so the signal cannot reach anybody else.
        """
        if self.returncode is not None:
            return self.returncode
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self.returncode = self._popen.wait()
        return self.returncode

    def tail(self) -> str:
        """The last lines that the kernel printed."""
        try:
            with open(self.log_path, "rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - TAIL_BYTES))
                text = log.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join(text.strip().splitlines()[-TAIL_LINES:])

    def trim_log(self) -> None:
        """Keep the output file within LOG_LIMIT (appending goes on at the new end)."""
        try:
            if os.path.getsize(self.log_path) > LOG_LIMIT:
                last = self.tail()
                os.truncate(self.log_path, 0)
                with open(self.log_path, "a") as log:
                    log.write("[earlier output dropped]\n" + last + "\n")
        except OSError:
            pass  # deleted or disk full: there is nothing to keep
