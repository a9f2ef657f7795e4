"""Keeps memory shared between a template and its kernels.

Counting a reference to an object writes to the object's page, which is not shared any more then.
Kernels that list all modules do that, and so does the template before each fork.

A part of the template's program (see PARTS in template_program.py). Standard library only: this
module travels to hosts.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.machinery
import sys
import types
from typing import TYPE_CHECKING, Any, Iterator, Optional

if TYPE_CHECKING:
    from .template_files import Seen

#: How many module objects are made ahead: ipykernel and its dependencies are about 500 modules.
_STOCK = 600


@contextlib.contextmanager
def modules_in_a_row() -> Iterator[None]:
    """Put imported module objects next to each other in memory, not among their contents."""
    loader: Any = importlib.machinery.SourceFileLoader
    stock = [types.ModuleType("") for _ in range(_STOCK)]

    def create_module(_: Any, spec: importlib.machinery.ModuleSpec) -> Optional[types.ModuleType]:
        if not stock:
            return None  # then the importer makes one
        module = stock.pop()
        module.__init__(spec.name)  # type: ignore[misc]
        return module

    loader.create_module = create_module
    try:
        yield
    finally:
        del loader.create_module  # the inherited one again


def share(seen: Seen) -> None:
    """Keep kernels, and us, from writing to memory that later kernels share."""
    _gather()
    seen.modules()
    importlib.invalidate_caches()  # once for all kernels: the directories may have changed
    if sys.version_info < (3, 13):
        sys._clear_type_cache()  # otherwise kernels write to each name that they replace in it
    gc.freeze()


def _gather() -> None:
    """Put the names and file names of modules next to each other in memory."""
    for name, module in list(sys.modules.items()):
        if type(module) is types.ModuleType and type(vars(module).get("__file__")) is str:
            module.__file__ = _copy(vars(module)["__file__"])
        del sys.modules[name]
        sys.modules[_copy(name)] = module


def _copy(text: str) -> str:
    return text[:1] + text[1:]
