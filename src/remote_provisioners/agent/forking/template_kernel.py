"""A forked process becomes its kernel: its request's directory, environment, argv and program.

A part of the template's program (see PARTS in template_program.py). Standard library only: this
module travels to hosts.
"""

from __future__ import annotations

import builtins
import gc
import importlib
import importlib.machinery
import os
import random
import runpy
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Sequence

if TYPE_CHECKING:
    from .template_files import Seen
    from .template_messages import Message, receive, send

_APPLICATION = "ipykernel.kernelapp"

#: Whether the flags let the program's directory be first on sys.path.
_HAS_DIRECTORY = sys.path[:1] == [""]

#: The environment that this process was started with.
_given: Dict[str, str] = {}


class Kernel(NamedTuple):
    """What a forked process runs."""

    argv: List[str]
    #: The interpreter's, which are in `argv` as well.
    flags: List[str]
    #: A warm kernel gets its identity here; None for any other kernel.
    identity: Optional[socket.socket]


def note_start() -> None:
    """Note the environment that we were started with, and take our directory off sys.path."""
    with open("/proc/self/environ", "rb") as environ:
        pairs = [item.partition(b"=") for item in environ.read().split(b"\0") if item]
    _given.update({os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs})
    if _HAS_DIRECTORY:
        del sys.path[0]


def become(request: Message, descriptors: Sequence[int]) -> None:
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
    application: Any = importlib.import_module(_APPLICATION).IPKernelApp

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
