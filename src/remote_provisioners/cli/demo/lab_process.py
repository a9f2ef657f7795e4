"""JupyterLab, which ends with the demo: ``python -m …cli.demo.lab_process FD OPTION...``

The demo holds the other end of the pipe FD. However the demo ends, SIGKILL included, the pipe
closes. Stdin belongs to JupyterLab, which asks there whether Ctrl-C is meant.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

_END_SECONDS = 15


def _end_with(pipe: int) -> None:
    """Wait for the end of the demo, then end this process."""
    os.read(pipe, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_END_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    pipe = int(sys.argv.pop(1))
    os.set_inheritable(pipe, False)
    threading.Thread(target=_end_with, args=[pipe], daemon=True).start()
    runpy.run_module("jupyterlab", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
