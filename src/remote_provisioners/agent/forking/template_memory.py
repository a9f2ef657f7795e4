"""What kernels share with their template, and how it stays shared.

Whoever counts a reference to an object writes to the page that it is on, which is shared no more:
kernels that make lists of all modules, and the template before each fork.

A part of the template's program (see PARTS in templates.py). Standard library only: this module
travels to hosts.
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

#: Modules that are made before they are imported: ipykernel and what it needs are about 500.
_STOCK = 600


@contextlib.contextmanager
def modules_in_a_row() -> Iterator[None]:
    """Have modules that are imported in one place, not each among what it was imported with."""
    loader: Any = importlib.machinery.SourceFileLoader
    stock = [types.ModuleType("") for _ in range(_STOCK)]

    def create_module(_: Any, spec: importlib.machinery.ModuleSpec) -> Optional[types.ModuleType]:
        if not stock:
            return None  # which is that the importer makes one
        module = stock.pop()
        module.__init__(spec.name)  # type: ignore[misc]
        return module

    loader.create_module = create_module
    try:
        yield
    finally:
        del loader.create_module  # the inherited one again


def share(seen: Seen) -> None:
    """Keep kernels, and us, from writing to what is shared by those to come."""
    _gather()
    seen.modules()
    importlib.invalidate_caches()  # for all of them: the directories may have changed
    if sys.version_info < (3, 13):
        sys._clear_type_cache()  # a kernel would write to each name that leaves it
    gc.freeze()


def _gather() -> None:
    """Put the names of modules in one place, and those of their files."""
    for name, module in list(sys.modules.items()):
        if type(module) is types.ModuleType and type(vars(module).get("__file__")) is str:
            module.__file__ = _copy(vars(module)["__file__"])
        del sys.modules[name]
        sys.modules[_copy(name)] = module


def _copy(text: str) -> str:
    return text[:1] + text[1:]
