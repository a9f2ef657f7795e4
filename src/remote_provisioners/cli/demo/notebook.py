"""The demo's notebook, run by nbclient: ``python -m remote_provisioners.cli.demo.notebook N``

The server's side of the demo. It is a separate process because its home has the SSH configuration
of the demo's hosts. Runs the notebook N times and prints a line of JSON for each run: facts about
the kernel, or ``{"error": ...}``.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any, cast

from nbformat import NotebookNode, v4

from ..spec.samples import DEFAULT_SAMPLE

RESULT = 332833500

_CELLS = (
    "import json, os, socket",
    "result = sum(n * n for n in range(1000))",
    "print(json.dumps({'host': os.environ.get('HOSTNAME') or socket.gethostname(),\n"
    "                  'pid': os.getpid(), 'result': result}))",
)
_START_SECONDS = 60


def notebook() -> NotebookNode:
    """The notebook, before it runs."""
    kernelspec = {"name": DEFAULT_SAMPLE, "display_name": "Python (distributed)"}
    cells = [v4.new_code_cell(source) for source in _CELLS]  # type: ignore[no-untyped-call]
    new = v4.new_notebook(cells=cells, metadata={"kernelspec": kernelspec})  # type: ignore[no-untyped-call]
    return cast(NotebookNode, new)


def run_once() -> dict[str, Any]:
    """Start a kernel, run the notebook in it and end it."""
    from jupyter_client.manager import KernelManager  # noqa: PLC0415
    from nbclient import NotebookClient  # noqa: PLC0415

    manager = KernelManager(kernel_name=DEFAULT_SAMPLE)
    began = time.perf_counter()
    manager.start_kernel()
    try:
        client = manager.client()
        client.start_channels()
        try:
            client.kernel_info(reply=True, timeout=_START_SECONDS)
            milliseconds = 1000 * (time.perf_counter() - began)
            runner = NotebookClient(notebook(), km=manager, timeout=_START_SECONDS)
            runner.kc = client
            run = runner.execute()
        finally:
            client.stop_channels()
        seen: dict[str, Any] = json.loads(run.cells[-1].outputs[0].text)
    finally:
        manager.shutdown_kernel(now=True)
    return {"kernel": manager.kernel_id, "milliseconds": milliseconds, **seen}


def main(times: int) -> int:
    """Run it `times` times. Returns the exit code."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for _ in range(times):
        try:
            print(json.dumps(run_once()), flush=True)
        except Exception as error:
            print(json.dumps({"error": str(error) or repr(error)}), flush=True)
            return 1
    return 0


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
