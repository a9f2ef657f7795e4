"""What a killed agent has left: its kernels are taken over, the rest is cleared away.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
import shutil
import signal
from typing import Dict, List

from ..processes.process_identity import leaders_in
from . import kernel_record as record
from .hosted_kernel import HostedKernel


def take_over(kernels_directory: str) -> List[HostedKernel]:
    """The kernels of the records in `kernels_directory`: those that run, those that have ended.

    Where there is no record that can be used, the agent was killed while it started a kernel, or
    somebody else has been there: what runs there has no owner and nobody can reach it, so it is
    ended.
    """
    found: Dict[str, HostedKernel] = {}
    # Of two for one kernel the first wins: by their order that is never a warm kernel's.
    for name in sorted(os.listdir(kernels_directory)):
        directory = os.path.join(kernels_directory, name)
        try:
            kernel = HostedKernel.recorded(record.read(directory), directory)
            if kernel.kernel_id in found:
                text = "{} names the kernel of {}"
                other = found[kernel.kernel_id].directory
                raise record.RecordError(text.format(directory, other))
        except FileNotFoundError:
            _clear(directory, "its start was not over, or it was only kept ready")
        except record.RecordError as error:
            _clear(directory, "not taken over: {}".format(error))
        else:
            _say(kernel)
            found[kernel.kernel_id] = kernel
    return list(found.values())


def _say(kernel: HostedKernel) -> None:
    process = kernel.process
    assert process is not None
    what = "taken over" if kernel.running else "found ended ({})".format(process.tail()[-200:])
    print("kernel {} (pid {}): {}".format(kernel.kernel_id, process.pid, what), flush=True)


def _clear(directory: str, why: str) -> None:
    pids = list(leaders_in(directory))
    for pid in pids:
        try:
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
    ended = ", ".join(str(pid) for pid in pids) or "none"
    name = os.path.basename(directory)
    print("kernel {}: {}; processes ended: {}".format(name, why, ended), flush=True)
    shutil.rmtree(directory, ignore_errors=True)
