"""The fork server: a process that has imported what a Python kernel needs, and forks kernels.

The agent writes the text of this module and of the other PARTS (template_process.py) to the
standard input of the kernels' own interpreter, which has their flags and environment. There they
are one module. The process has one thread, no event loop, no ZeroMQ context and no application
instance: each kernel makes its own after the fork. The next kernel's process is forked ahead, and
waits for its request. Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import importlib
import importlib.machinery
import importlib.util
import os
import random
import runpy
import select
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

if TYPE_CHECKING:
    from .template_files import Seen
    from .template_memory import modules_in_a_row, share
    from .template_messages import Message, receive, send

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

#: Whether the flags let the program's directory be first on sys.path.
_HAS_DIRECTORY = sys.path[:1] == [""]

#: Our descriptors that no kernel may inherit.
_own: List[int] = []

#: The environment that this process was started with.
_given: Dict[str, str] = {}


class Kernel(NamedTuple):
    """What a forked process runs."""

    argv: List[str]
    #: The interpreter's, which are in `argv` as well.
    flags: List[str]
    #: A warm kernel gets its identity here; None for any other kernel.
    identity: Optional[socket.socket]


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
        _become(request, descriptors)
    except OSError as problem:
        error = [problem.errno, problem.strerror, problem.filename]
    receive(template)
    send(template, {"pid": os.getpid(), "error": error})
    if error is not None:
        os._exit(127)
    template.close()
    return Kernel(request["argv"], request["flags"], waits)


def _become(request: Message, descriptors: Sequence[int]) -> None:
    """Become the process that `request` describes. Raises OSError."""
    gc.enable()
    os.setsid()
    output, inherited = descriptors[0], descriptors[1:]
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(output)
    for descriptor in inherited:
        os.set_inheritable(descriptor, True)
    os.umask(request["umask"])
    _settle(request)
    argv = request["argv"]
    _show_argv(argv)
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[:] = argv
    main_thread = threading.main_thread()
    if hasattr(main_thread, "_set_native_id"):
        main_thread._set_native_id()
    random.seed()
    if "multiprocessing.process" in sys.modules:
        # The import made a key for workers: two kernels must not share it.
        process = sys.modules["multiprocessing.process"]
        process.current_process()._config["authkey"] = process.AuthenticationString(os.urandom(32))
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()


def _settle(request: Message) -> None:
    """Change to the request's directory and environment.

    Keep what the interpreter (LC_CTYPE) or an import has changed: a spawned kernel has that too.
    """
    os.chdir(request["cwd"])
    now = dict(os.environ)
    changed = {name for name in _given.keys() | now.keys() if _given.get(name) != now.get(name)}
    os.environ.clear()
    os.environ.update({k: v for k, v in request["env"].items() if k not in changed})
    os.environ.update({name: now[name] for name in changed & now.keys()})
    _given.clear()
    _given.update(request["env"])
    if "multiprocessing.process" in sys.modules:  # its import notes the directory
        process: Any = sys.modules["multiprocessing.process"]
        process.ORIGINAL_DIR = request["cwd"]


def _environment_given() -> Dict[str, str]:
    with open("/proc/self/environ", "rb") as environ:
        pairs = [item.partition(b"=") for item in environ.read().split(b"\0") if item]
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def _show_argv(argv: Sequence[str]) -> None:
    """Let ``ps`` show the kernel's argv: the agent made ours long enough."""
    try:
        with open("/proc/self/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
        start, end = int(fields[45]), int(fields[46])
        shown = b"".join(os.fsencode(word) + b"\0" for word in argv)[: end - start]
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            memory.write(shown.ljust(end - start, b"\0"))
    except (OSError, ValueError, IndexError):
        pass  # no /proc, or a hardened process: only the name shown is wrong


def _pause(identity: socket.socket, seen: Seen) -> None:
    """Have ipykernel wait for its identity before the first step that needs it.

    By then its sockets are bound and the shell exists; startup files and extensions come later.
    Ends the process when the agent goes away, or when an imported module has changed on disk.
    """
    application: Any = importlib.import_module(MODULES[0]).IPKernelApp

    def init_path(app: Any) -> None:
        del application.init_path  # the inherited one again
        receive(identity)
        if seen.changed():
            os._exit(0)
        send(identity, {"fresh": True})
        told, _ = receive(identity)
        _settle(told)
        app.session.key = told["key"].encode("ascii")
        app.kernel.shell.user_ns["_dh"][:] = [os.getcwd()]
        if os.environ.get("JPY_SESSION_NAME"):
            app.kernel.shell.user_ns["__session__"] = os.environ["JPY_SESSION_NAME"]
        send(identity, {"ready": True})
        identity.close()
        app.init_path()

    application.init_path = init_path


def run(kernel: Kernel, seen: Seen) -> None:
    """Run the module or the script of its argv as the interpreter itself would."""
    arguments = kernel.argv[1 + len(kernel.flags) :]
    if kernel.identity is not None:
        _pause(kernel.identity, seen)
    main = vars(sys.modules["__main__"])
    main.clear()
    main.update(__name__="__main__", __builtins__=builtins, __doc__=None, __spec__=None)
    main.update(__package__=None, __loader__=importlib.machinery.BuiltinImporter)
    module = arguments[0] == "-m"
    here = os.getcwd() if module else os.path.dirname(os.path.realpath(arguments[0]))
    if _HAS_DIRECTORY:
        sys.path.insert(0, here)
    sys.argv[:] = arguments[1:] if module else arguments
    try:
        if module:
            runpy._run_module_as_main(arguments[1])  # type: ignore[attr-defined]
        else:
            with open(arguments[0], "rb") as script:
                code = compile(script.read(), arguments[0], "exec")
            main.update(__file__=arguments[0], __cached__=None)
            exec(code, main)  # noqa: S102
    except Exception as error:
        # Leave out our own frames: users see the last lines of the output.
        frames = error.__traceback__.tb_next if error.__traceback__ is not None else None
        sys.excepthook(type(error), error, frames)
        sys.exit(1)


# -- what was imported -----------------------------------------------------------------------


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
    _given.update(_environment_given())
    if _HAS_DIRECTORY:
        del sys.path[0]
    seen = Seen()
    try:
        kernel = serve(connection, preload, seen)
    except ImportError as error:
        send(connection, {"failed": str(error)})
        os._exit(1)
    run(kernel, seen)
