"""A start in a thread, which a test looks at meanwhile."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager


class InBackground:
    """`over` waits for its end, and returns its error."""

    def __init__(self, name: str, **kwargs: Any) -> None:
        self.manager = KernelManager(kernel_name=name, kernel_spec_manager=KernelSpecManager())
        self.error: BaseException | None = None
        self._kwargs = kwargs
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            asyncio.run(self.manager._async_start_kernel(**self._kwargs))
        except BaseException as error:
            self.error = error

    def over(self) -> BaseException | None:
        self._thread.join()
        return self.error
