"""Errors of starts as the programs of users see them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from ...errors import RemoteProvisionerError
from .gone_environment import told_what_is_gone

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)


def short_errors(
    method: Callable[P, Coroutine[Any, Any, T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Have the errors of a provisioner's start leave our own frames behind.

    Clients such as papermill print all frames, and the message, which says it all, last.
    """

    @functools.wraps(method)
    async def shortened(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(*args, **kwargs)
        except RemoteProvisionerError as error:
            log.debug("a start failed", exc_info=True)
            spec = getattr(args[0], "kernel_spec", None)
            told = told_what_is_gone(error, getattr(spec, "metadata", {}))
            raise told.with_traceback(None) from None

    return shortened
