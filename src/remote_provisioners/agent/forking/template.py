"""The fork server: a process that has imported what a Python kernel needs, and forks kernels.

The agent writes the text of this module and of the other PARTS (template_program.py) to the
standard input of the kernels' own interpreter, which has their flags and environment. There they
are one module. The process has one thread, no event loop, no ZeroMQ context and no application
instance: each kernel makes its own after the fork. The next kernel's process is forked ahead, and
waits for its request. Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import os
import select
import socket
from typing import TYPE_CHECKING, Any, List, Optional, Sequence, Tuple

if TYPE_CHECKING:
    from .template_files import Seen
    from .template_kernel import Kernel, become, note_start, run
    from .template_memory import modules_in_a_row, share
    from .template_messages import receive, send

#: The modules that ipykernel imports until it answers. Another version may lack some.
MODULES = (
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "ipykernel.zmqshell",
    "ipykernel.debugger",
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "tornado.platform.asyncio",
    "tornado.queues",
    "tornado.locks",
    "sqlite3",
    "faulthandler",
    "unicodedata",
    "encodings.ascii",
    "encodings.idna",
    "encodings.latin_1",
)
#: The next kernel's process is forked when nobody has asked for a kernel for this long.
SPARE_SECONDS = 0.1
_LAUNCHER = "ipykernel_launcher"

#: Our descriptors that no kernel may inherit.
_own: List[int] = []


def serve(connection: socket.socket, preload: Sequence[str], seen: Seen) -> Kernel:
    """Fork a kernel at each request, until the agent is gone; returns only in a kernel.

    Raises ImportError when the interpreter has no ipykernel.
    """
    with modules_in_a_row():
        importlib.import_module(MODULES[0])
        for name in MODULES[1:]:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    threads = _threads()
    if threads > 1:
        raise ImportError("importing ipykernel started {} threads".format(threads - 1))
    share(seen)
    send(connection, {"ready": True})
    waiting = list(preload)
    successor = 0
    spare: Optional[socket.socket] = None
    while True:
        if waiting and not successor:
            successor = _succeed(waiting[0], seen)
            if not successor:  # we are the successor: the module is imported here
                waiting.pop(0)
                continue
        watched: List[Any] = [connection, *_own[:1], *([spare] if spare else [])]
        readable, _, _ = select.select(watched, [], [], None if spare else SPARE_SECONDS)
        asked = connection in readable
        if spare is not None and spare in readable:  # it was killed
            spare.close()
            spare = None
        elif asked or not readable:
            if spare is None:
                is_spare, spare = _fork(connection)
                if is_spare:
                    return _be_told(spare)
            if asked:
                _serve_one(connection, spare, seen)
                spare = None
        elif os.read(_own[0], 1):
            os._exit(0)  # the successor waits for this
        else:  # the successor has given up
            _close_own()
            os.waitpid(successor, 0)
            waiting.pop(0)
            successor = 0


# -- one kernel ------------------------------------------------------------------------------


def _serve_one(connection: socket.socket, spare: socket.socket, seen: Seen) -> None:
    """Turn the spare process into the requested kernel."""
    request, descriptors = receive(connection)
    send(spare, request, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    changed = seen.changed()  # meanwhile the spare process prepares itself
    if changed:
        send(connection, {"stale": changed})
        os._exit(0)
    send(spare, {"fresh": True})
    answer, _ = receive(spare)
    send(connection, answer)
    spare.close()


def _fork(connection: socket.socket) -> Tuple[bool, socket.socket]:
    """Fork a process that is a child of the agent. Returns whether we are that process, and the
    connection between it and the template.
    """
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child:
        theirs.close()
        os.waitpid(child, 0)
        return False, ours
    try:
        # The process between template and kernel ends: the kernel becomes the agent's child.
        if os.fork():
            os._exit(0)
    except OSError:
        os._exit(1)
    for inherited in (ours, connection):
        inherited.close()
    _close_own()
    return True, theirs


def _be_told(template: socket.socket) -> Kernel:
    """Wait for a request and become that kernel. Ends the process when the template is gone."""
    importlib.util.find_spec(_LAUNCHER)  # reads the directories ahead
    request, descriptors = receive(template)
    waits = socket.socket(fileno=descriptors.pop()) if request["waits"] else None
    error = None
    try:
        become(request, descriptors)
    except OSError as problem:
        error = [problem.errno, problem.strerror, problem.filename]
    receive(template)
    send(template, {"pid": os.getpid(), "error": error})
    if error is not None:
        os._exit(127)
    template.close()
    return Kernel(request["argv"], request["flags"], waits)


def _succeed(name: str, seen: Seen) -> int:
    """Fork a successor that imports a module. We go on serving meanwhile.

    Returns its pid. It reports by _own[0] that it has the module, and waits until we have ended.
    Returns 0 in the successor, which is the server then. If the import makes the successor
    unable to fork, it logs why and ends.
    """
    reader, writer = os.pipe()
    waiting, alive = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        os.close(waiting)
        _own[:] = [reader, alive]
        return pid
    os.close(reader)
    os.close(alive)
    try:
        importlib.import_module(name)
        problem = _unforkable()
    except BaseException as error:
        problem = "{}: {}".format(type(error).__name__, error)
    if problem:
        print("preload: {} is left out: {}".format(name, problem), flush=True)
        os._exit(1)
    share(seen)
    try:
        os.write(writer, b"+")
    except OSError:
        os._exit(0)  # the agent has ended us all
    os.read(waiting, 1)
    os.close(waiting)
    os.close(writer)
    return 0


def _close_own() -> None:
    for descriptor in _own:
        os.close(descriptor)
    _own.clear()


def _unforkable() -> str:
    """Why this process must not fork: threads that no at-fork handler stops; "" if it may."""
    if _threads() == 1:
        return ""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    threads = _threads()
    return "it starts {} threads on import".format(threads - 1) if threads > 1 else ""


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def main(descriptor: int, preload: Sequence[str]) -> None:
    """Serve on the inherited socket; in a kernel, run it."""
    # Kernels share this memory while nobody writes to it. Imports leave nearly no garbage
    # (0.3 MB); collecting it took a tenth of the time and left gaps that kernels then wrote to.
    gc.disable()
    connection = socket.socket(fileno=descriptor)
    note_start()
    seen = Seen()
    try:
        kernel = serve(connection, preload, seen)
    except ImportError as error:
        send(connection, {"failed": str(error)})
        os._exit(1)
    run(kernel, seen)
