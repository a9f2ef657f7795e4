"""The program that makes an interpreter the host's end of a pipe (agent/pipe/host_end.py).

Compiled modules if the host has our version of Python: compiling them there takes 15 ms. Otherwise
their sources.
"""

from __future__ import annotations

import functools
import importlib.resources
import marshal
import sys
from dataclasses import dataclass
from types import CodeType

_PACKAGE = "remote_provisioners"
_THERE = "remote_provisioners_pipe"
_PACKAGES = ("protocol", "agent", "agent.pipe")
#: Each module needs only those before it.
_MODULES = (
    "protocol.multiplex",
    "agent.pipe.descriptors",
    "agent.pipe.stream_ends",
    "agent.pipe.host_end",
)
_DIGITS = 8
_COMPILED, _SOURCES = b"C", b"S"
# Compiled code is read with marshal only where we know that it is of the same version.
_LOADER = f"""\
import sys
def load(name, code):
    module = type(sys)(name)
    module.__package__ = name if code is None else name.rpartition(".")[0]
    if code is None:
        module.__path__ = []
    sys.modules[name] = module
    if code is not None:
        if isinstance(code, str):
            code = compile(code, name, "exec", dont_inherit=True)
        exec(code, module.__dict__)
size = int(sys.stdin.buffer.read({_DIGITS}))
kind = sys.stdin.buffer.read(1)
data = sys.stdin.buffer.read(size)
if kind == {_COMPILED!r}:
    import marshal
    modules = marshal.loads(data)
else:
    modules = eval(data)
for name, code in modules:
    load(name, code)
sys.modules[name].main()
"""

#: What the command reads and executes; the rest follows.
LOADER_BYTES = len(_LOADER)


@dataclass(frozen=True)
class Interpreter:
    """An interpreter as it introduces itself."""

    version: tuple[int, int]
    #: "final", unless it is a test version, whose compiled code may differ from day to day.
    level: str
    #: The implementation and its version, as in the names of compiled files.
    cache_tag: str

    @property
    def is_ours(self) -> bool:
        """Whether it can run what this process compiles."""
        return self == own_interpreter() and self.level == "final"


@functools.cache
def own_interpreter() -> Interpreter:
    """The interpreter of this process."""
    version = sys.version_info
    tag = sys.implementation.cache_tag or ""
    return Interpreter(version[:2], version.releaselevel, tag)


def pipe_program(interpreter: Interpreter) -> bytes:
    """What to send to an interpreter that reads LOADER_BYTES and executes them."""
    return _pipe_program(interpreter.is_ours)


@functools.cache
def _pipe_program(compiled: bool) -> bytes:
    package = importlib.resources.files(_PACKAGE)
    modules: list[tuple[str, CodeType | str | None]] = [
        (name, None) for name in (_THERE, *(f"{_THERE}.{inner}" for inner in _PACKAGES))
    ]
    for name in _MODULES:
        *above, module = name.split(".")
        source, there = (
            package.joinpath(*above, f"{module}.py").read_text("utf-8"),
            f"{_THERE}.{name}",
        )
        if compiled:
            modules.append((there, compile(source, there, "exec", dont_inherit=True, optimize=0)))
        else:
            modules.append((there, source))
    kind = _COMPILED if compiled else _SOURCES
    data = marshal.dumps(modules) if compiled else ascii(modules).encode()
    return _LOADER.encode("ascii") + b"%0*d" % (_DIGITS, len(data)) + kind + data
