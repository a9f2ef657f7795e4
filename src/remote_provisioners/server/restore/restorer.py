"""Carry the kernels of a Jupyter server from one process to the next.

A kernel that was left running is in the kernel manager before the first request, with its id, its
sessions and open endpoints. It counts as busy and unreachable until its host answers. A kernel that
ended in the meantime is removed, and the next kernel of its notebook says why it ended.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import logging
import os
from collections import Counter
from collections.abc import Coroutine, Sequence
from importlib.metadata import entry_points
from typing import Any

from jupyter_client.kernelspec import NoSuchKernel
from jupyter_client.provisioning.factory import KernelProvisionerFactory

from ...errors import KernelLostError, KernelTakenError

# Import this before registering an exit function, which needs the thread; it closes at exit too.
from ...io_thread import close_io_thread
from ...kernels.failure import exit_text
from ..hooks.kernel import (
    add_running,
    ask_whether_idle,
    bury,
    cannot_be_added,
    detach,
    kernel_of,
    kernels_of,
    show_dead,
)
from ..hooks.kernel_manager import watch_kernels
from ..session_table import OfKernels
from ..sessions import Sessions
from .finish import finish as finish_kernel
from .notices import Notices
from .record import BadRecord, ProvisionerInfo, Record
from .record_keeper import RecordKeeper

#: How long a stopping kernel may take to end, as long as its server would have waited.
_STOP_SECONDS = 5.0
#: The package of our provisioners.
_PACKAGE = __name__.partition(".")[0]
_COMMAND = "it keeps running: see `jupyter remote kernels`"
#: The pause before kernels that could not be restored are tried again: somebody may have repaired
#: the kernelspec or the hosts file that was wrong.
_AGAIN_SECONDS = 5
_WAYS_TO_BE_LOST = (
    "its host was rebooted, its agent was killed, its lease ran out, or "
    "`jupyter remote stop` on another machine ended it"
)


class Restorer:
    """Restores the kernels that earlier servers left, and leaves this server's to the next one.

    `manager` is the multi kernel manager. Lives on the server's event loop.
    """

    def __init__(self, manager: Any, sessions: Sessions | None, keeper: RecordKeeper) -> None:
        self._manager = manager
        self._log: logging.Logger = manager.log
        self._sessions = sessions
        self._keeper = keeper
        self._notices = Notices(manager)
        self._tasks: set[asyncio.Task[None]] = set()
        #: What earlier servers left and is not yet in the manager, by kernel.
        self._waiting: dict[str, Record] = {}

    def watch(self) -> None:
        """Follow kernels and sessions from now on."""
        if self._sessions is not None:
            self._sessions.watch(self._sessions_changed, self._notices.replaced)
        watch_kernels(self._manager, self)
        atexit.register(self._at_exit)

    async def _sessions_changed(self, of_kernels: OfKernels) -> None:
        waiting = {record.kernel_id: record.sessions for record in self._waiting.values()}
        self._keeper.note_sessions({**waiting, **of_kernels})
        await self._notices.give(of_kernels)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine until it ends or the server does."""
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("kernels of an earlier server: %s", error, exc_info=error)

    # -- what the manager does --------------------------------------------------------------

    def is_ours(self, kernel_name: str | None) -> bool:
        try:
            spec = self._manager.kernel_spec_manager.get_kernel_spec(kernel_name)
        except Exception:  # the start will report it
            return False
        wanted = spec.metadata.get("kernel_provisioner", {}).get("provisioner_name", "")
        return wanted in _our_provisioners()

    def removed(self, kernel_id: str, kernel: Any) -> None:
        if not getattr(getattr(kernel, "provisioner", None), "left_behind", False):
            self._keeper.remove(kernel_id)

    def doing(self, kernel_id: str, what: str) -> contextlib.AbstractContextManager[None]:
        return self._keeper.doing(kernel_id, what)

    # -- the next process -------------------------------------------------------------------

    async def restore_all(self) -> None:
        """Restore the kernels that servers of this directory left. Their hosts are asked later."""
        self._waiting = {record.kernel_id: record for record in self._keeper.adopt()}
        for record in list(self._waiting.values()):
            why = await self._carry_on(record)
            if why:
                self._log.error(
                    "kernel %s on %s: cannot be restored. It keeps running (see `jupyter remote "
                    "kernels`), and is tried again every %d s: %s",
                    record.kernel_id,
                    record.info["host"],
                    _AGAIN_SECONDS,
                    why,
                )
        if self._waiting:
            self.spawn(self._try_again())
        if self._sessions is not None:
            await self._sessions.restored()
        for origin, count in Counter(r.origin for r in self._keeper.of_others).items():
            self._log.warning(
                "%s has ended and left %d kernel%s on hosts. It restores them when it starts "
                "again. To list them: jupyter remote kernels",
                origin,
                count,
                "" if count == 1 else "s",
            )

    async def _carry_on(self, record: Record) -> str:
        """Restore or end what a record describes. Returns why it cannot be done now, or ""."""
        try:
            if record.ended:
                self._ended(record, record.ended)
            elif record.doing in ("start", "stop"):
                self._finish(record)
            else:
                await self._restore(record)
        except Exception as error:  # a configured manager may raise anything
            cannot_be_added(self._manager, record.kernel_id)
            return str(error) or type(error).__name__
        del self._waiting[record.kernel_id]
        return ""

    async def _try_again(self) -> None:
        while self._waiting:
            await asyncio.sleep(_AGAIN_SECONDS)
            for record in list(self._waiting.values()):
                await asyncio.sleep(0)  # others come in between
                await self._carry_on(record)

    async def _restore(self, record: Record) -> None:
        kernel_id, manager = record.kernel_id, self._manager
        if kernel_id in manager:
            return
        self._provisioner(record)  # the manager would log its traceback, and that twice
        env = {n: v for n, v in os.environ.items() if not n.startswith("KERNEL_")}
        env |= record.info.get("launch", {}).get("env", {})
        if self._sessions is not None and record.sessions:
            env |= self._sessions.environment(record.sessions[0])
        kernel = await add_running(manager, record, env, ProvisionerInfo(record.info))
        await kernel.provisioner.replay_output()
        if self._sessions is not None:
            await self._sessions.restore(kernel_id, record.kernel_name, record.sessions)
        self.spawn(self._adopt(kernel_id, kernel, record))

    def _finish(self, record: Record) -> None:
        """End a kernel whose stop or start was in progress. Raises BadRecord."""
        provisioner = self._provisioner(record)
        seconds = _STOP_SECONDS if record.doing == "stop" else 0.0

        async def finish() -> None:
            await finish_kernel(provisioner, record.info, seconds)
            if not provisioner.left_behind:
                self._keeper.remove(record.kernel_id)
                self._log.info(
                    "kernel %s: ended, because its server was starting or stopping it",
                    record.kernel_id,
                )

        self.spawn(finish())

    def _provisioner(self, record: Record) -> Any:
        """A provisioner for the kernel. Raises BadRecord, or ConfigurationError for its options."""
        spec = self._spec(record.kernel_name)
        factory = KernelProvisionerFactory.instance()
        return factory.create_provisioner_instance(record.kernel_id, spec, parent=self._manager)

    def _spec(self, name: str) -> Any:
        """The kernelspec of this name. Raises BadRecord if it is gone or not ours any more."""
        try:
            spec = self._manager.kernel_spec_manager.get_kernel_spec(name)
        except NoSuchKernel:
            raise BadRecord(f"its kernelspec {name!r} is no longer installed") from None
        if not self.is_ours(name):
            raise BadRecord(f"its kernelspec {name!r} no longer uses remote-provisioners")
        return spec

    async def _adopt(self, kernel_id: str, kernel: Any, record: Record) -> None:
        """Adopt the kernel as soon as its host can be reached."""
        provisioner = kernel.provisioner
        lost = ""
        try:
            await provisioner.adopt_when_reachable()
        except KernelTakenError as error:
            self._log.error("kernel %s: not restored: %s", kernel_id, error)
            await detach(self._manager, kernel_id, kernel)
            return
        except KernelLostError as error:
            lost = f"{error}: {_WAYS_TO_BE_LOST}"
        if kernel_of(self._manager, kernel_id) is not kernel:
            return  # it was shut down in the meantime
        code = await provisioner.poll()
        info = await provisioner.get_provisioner_info()
        if not lost and provisioner.adoption_pending:  # its record stays for the next server
            show_dead(kernel, f"The kernel could not be restored: {provisioner.reason}")
            self._log.warning("kernel %s: %s; %s", kernel_id, kernel.reason, _COMMAND)
            return
        if record.doing == "restart" and (
            code is not None or info["pid"] == record.info.get("pid")
        ):
            await self._restart(kernel_id)
            return
        if code is None:
            self._keeper.runs(kernel, info)
            kernel.start_restarter()
            ask_whether_idle(kernel)
            self._log.info("kernel %s: restored on %s", kernel_id, provisioner.place)
            return
        why = lost or f"{exit_text(code)}. {provisioner.reason}".strip()
        text = self._ended(self._keeper.get(kernel_id) or record, why)
        self.spawn(bury(self._manager, kernel_id, kernel, text))

    def _ended(self, record: Record, why: str) -> str:
        """A kernel ended while there was no server. Returns the text for its users."""
        host = record.info["host"]
        self._log.warning("kernel %s on %s: ended in the meantime: %s", record.kernel_id, host, why)
        text = f"The kernel ended while there was no server: {why}"
        self._notices.ended(record, text)
        self._keeper.remove(record.kernel_id)
        return text

    async def _restart(self, kernel_id: str) -> None:
        try:
            await self._manager.restart_kernel(kernel_id, now=True)
        except Exception as error:  # the requested restart fails, as it would have before
            self._log.error("kernel %s: cannot be restarted: %s", kernel_id, error)
        else:
            self._log.info("kernel %s: restarted, because its server was restarting it", kernel_id)

    # -- the end of this process ------------------------------------------------------------

    async def before_shutdown_all(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await self._leave_running()
        for record in self._keeper:
            if record.kernel_id in self._manager:
                self._keeper.note(record.kernel_id, "stop")

    async def _leave_running(self) -> None:
        for kernel_id, kernel in kernels_of(self._manager):
            staying = kernel.provisioner.leave_kernels_running
            if staying and await kernel.provisioner.poll() is None:
                self._log.info("kernel %s: left running on %s", kernel_id, kernel.provisioner.place)
                await detach(self._manager, kernel_id, kernel)

    def after_shutdown_all(self) -> None:
        self._keeper.close()

    def _at_exit(self) -> None:
        """The process ends without `shutdown_all`, after a SIGINT without a terminal."""
        ended = []
        for kernel_id, kernel in kernels_of(self._manager):
            if self._keeper.get(kernel_id) and not kernel.provisioner.leave_kernels_running:
                self._keeper.note(kernel_id, "stop")
                ended.append((kernel_id, kernel.provisioner))
        if ended:
            with contextlib.suppress(Exception):
                asyncio.run(self._end_at_exit(ended))
        close_io_thread()
        self._keeper.close()

    async def _end_at_exit(self, kernels: Sequence[tuple[str, Any]]) -> None:
        async def end(kernel_id: str, provisioner: Any) -> None:
            await provisioner.cleanup()
            if not provisioner.left_behind:
                self._keeper.remove(kernel_id)

        await asyncio.gather(*(end(*kernel) for kernel in kernels), return_exceptions=True)


@functools.cache
def _our_provisioners() -> set[str]:
    group = entry_points(group="jupyter_client.kernel_provisioners")
    return {entry.name for entry in group if entry.value.partition(".")[0] == _PACKAGE}
