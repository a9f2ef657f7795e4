"""Carry the kernels of a Jupyter server from one process to the next.

A kernel that was left running is in the kernel manager before the first request, with its id, its
sessions and open endpoints. It counts as busy and unreachable until its host answers. A kernel that
ended in the meantime is removed, and the next kernel of its notebook says why it ended.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import dataclasses
import functools
import logging
import os
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping, Sequence
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
    is_dead,
    kernels_of,
    show_dead,
)
from ..hooks.kernel_manager import watch_kernels
from ..session_table import OfKernels
from ..sessions import Sessions
from .finish import finish as finish_kernel
from .record import BadRecord, ProvisionerInfo, Record
from .records import Records

#: How long a stopping kernel may take to end, as long as its server would have waited.
_STOP_SECONDS = 5.0
#: The package of our provisioners.
_PACKAGE = __name__.partition(".")[0]
_COMMAND = "it keeps running: see `jupyter remote kernels`"
_WAYS_TO_BE_LOST = (
    "its host was rebooted, its agent was killed, its lease ran out, or "
    "`jupyter remote stop` on another machine ended it"
)


class Restorer:
    """Keeps the records of a server's kernels and restores those of earlier servers.

    `manager` is the multi kernel manager, `root` the server's root directory. Lives on the
    server's event loop.
    """

    def __init__(
        self,
        manager: Any,
        sessions: Sessions | None,
        records: Records,
        root: str,
        server: str = "",
    ) -> None:
        self._manager = manager
        self._log: logging.Logger = manager.log
        self._sessions = sessions
        self._records = records
        self._root = root
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()
        #: Messages by the path of a notebook: why its kernel ended.
        self._notices: dict[str, str] = {}
        #: Hosts whose leftover kernels were already reported.
        self._reported: set[str] = set()
        #: The sessions of each kernel, including kernels without a record.
        self._of_kernels: OfKernels = {}

    def watch(self) -> None:
        """Follow kernels and sessions from now on."""
        if self._sessions is not None:
            self._sessions.watch(self._sessions_changed, self._replaced)
        watch_kernels(self._manager, self)
        atexit.register(self._at_exit)

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
            self._records.remove(kernel_id)

    async def before_shutdown_all(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await self._leave_running()
        for record in self._records:
            if record.kernel_id in self._manager:
                self._write(dataclasses.replace(record, doing="stop"))

    def after_shutdown_all(self) -> None:
        self._records.close()

    def _at_exit(self) -> None:
        """The process ends without `shutdown_all`, after a SIGINT without a terminal."""
        ended = []
        for kernel_id, kernel in kernels_of(self._manager):
            record = self._records.get(kernel_id)
            if record is not None and not kernel.provisioner.leave_kernels_running:
                self._write(dataclasses.replace(record, doing="stop"))
                ended.append((kernel_id, kernel.provisioner))
        if ended:
            with contextlib.suppress(Exception):
                asyncio.run(self._end_at_exit(ended))
        close_io_thread()
        self._records.close()

    async def _end_at_exit(self, kernels: Sequence[tuple[str, Any]]) -> None:
        async def end(kernel_id: str, provisioner: Any) -> None:
            await provisioner.cleanup()
            if not provisioner.left_behind:
                self._records.remove(kernel_id)

        await asyncio.gather(*(end(*kernel) for kernel in kernels), return_exceptions=True)

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

    # -- records ----------------------------------------------------------------------------

    def starts(self, kernel_manager: Any, info: Mapping[str, Any]) -> None:
        """Called by the provisioner before a host gets a start request."""
        earlier = self._records.get(info["kernel_id"])  # of an earlier try, or a kernel that moves
        doing = "start" if earlier is None or earlier.doing == "start" else "restart"
        self._write(self._record(kernel_manager, info, doing=doing))

    def _record(self, kernel_manager: Any, info: Mapping[str, Any], doing: str = "") -> Record:
        kernel_id = info["kernel_id"]
        earlier = self._records.get(kernel_id)
        sessions = self._of_kernels.get(kernel_id, earlier.sessions if earlier is not None else ())
        return Record(
            kernel_id,
            kernel_manager.kernel_name,
            self._root,
            dict(info),
            tuple(sessions),
            doing=doing,
            server=self._server,
        )

    def failed(self, kernel_id: str) -> None:
        """Called by the provisioner when a start has failed."""
        self._records.remove(kernel_id)

    @contextlib.contextmanager
    def doing(self, kernel_id: str, what: str) -> Iterator[None]:
        """Note an operation in the record until it succeeds or fails."""
        self._note(kernel_id, what)
        try:
            yield
        except BaseException:
            self._note(kernel_id, "")
            raise
        if what == "restart":
            self._note(kernel_id, "")

    def _note(self, kernel_id: str, what: str) -> None:
        record = self._records.get(kernel_id)
        if record is not None:
            self._write(dataclasses.replace(record, doing=what))

    def runs(self, kernel_manager: Any, info: Mapping[str, Any]) -> None:
        """Called by the provisioner when a kernel has started or restarted."""
        if getattr(kernel_manager, "execution_state", "") == "dead":
            kernel_manager.execution_state, kernel_manager.reason = "starting", ""
        self._write(self._record(kernel_manager, info))
        provisioner = kernel_manager.provisioner
        known = [*self._records, *self._records.of_others]
        left = provisioner.left_on_host - {record.kernel_id for record in known}
        if left and provisioner.place not in self._reported:
            self._reported.add(provisioner.place)
            self._log.warning(
                "host %s: %d of your kernels belong to no running server and are not in this "
                "server's records: see `jupyter remote kernels`",
                provisioner.place,
                len(left),
            )

    async def _sessions_changed(self, of_kernels: OfKernels) -> None:
        self._of_kernels = of_kernels
        for record in self._records:
            its = tuple(of_kernels.get(record.kernel_id, ()))
            if its != record.sessions:
                self._write(dataclasses.replace(record, sessions=its))
        for kernel_id, sessions in of_kernels.items() if self._notices else ():
            for session in sessions:
                await self._give_notice(session["path"], kernel_id)

    async def _give_notice(self, path: str, kernel_id: str) -> None:
        """Show in the first cell of a notebook's new kernel what happened to the old one."""
        kernel = self._manager._kernels.get(kernel_id)
        if path not in self._notices or is_dead(self._manager, kernel_id):
            return
        provisioner: Any = getattr(kernel, "provisioner", None)
        text = self._notices.pop(path)
        if hasattr(provisioner, "announce"):
            await provisioner.announce(f"This is a new kernel. {text}")

    async def _replaced(self, path: str, kernel_id: str) -> bool:
        """A notebook is opened again. If its kernel is dead, it gets a new one."""
        kernel = self._manager._kernels.get(kernel_id)
        if kernel is None or not is_dead(self._manager, kernel_id):
            return False
        self._notices[path] = kernel.reason
        provisioner = kernel.provisioner
        if getattr(provisioner, "adoption_pending", False):  # it may be alive, so its record stays
            await detach(self._manager, kernel_id, kernel)
        else:
            await self._manager.shutdown_kernel(kernel_id, now=True)
        return True

    def _write(self, record: Record) -> None:
        try:
            self._records.write(record)
        except (OSError, BadRecord) as error:
            self._log.error(
                "kernel %s: cannot write its record, so the next server will not find it: %s",
                record.kernel_id,
                error,
            )

    # -- the next process -------------------------------------------------------------------

    async def restore_all(self) -> None:
        """Restore the kernels that servers of this directory left. Their hosts are asked later."""
        for record in self._records.adopt(self._root, self._server):
            try:
                if record.ended:
                    self._ended(record, record.ended)
                elif record.doing in ("start", "stop"):
                    self._finish(record)
                else:
                    await self._restore(record)
            except Exception as error:  # a configured manager may raise anything
                cannot_be_added(self._manager, record.kernel_id)
                self._log.error(
                    "kernel %s on %s: cannot be restored, %s: %s",
                    record.kernel_id,
                    record.info["host"],
                    _COMMAND,
                    error,
                )
        if self._sessions is not None:
            await self._sessions.restored()
        for origin, count in Counter(r.origin for r in self._records.of_others).items():
            self._log.warning(
                "%d kernel%s of %s, which has ended, still on hosts. Such a server restores them "
                "when it starts: see `jupyter remote kernels`",
                count,
                " is" if count == 1 else "s are",
                origin,
            )

    async def _restore(self, record: Record) -> None:
        kernel_id, manager = record.kernel_id, self._manager
        if kernel_id in manager:
            return
        self._spec(record.kernel_name)
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
        provisioner: Any = KernelProvisionerFactory.instance().create_provisioner_instance(
            record.kernel_id, self._spec(record.kernel_name), parent=self._manager
        )
        seconds = _STOP_SECONDS if record.doing == "stop" else 0.0

        async def finish() -> None:
            await finish_kernel(provisioner, record.info, seconds)
            if not provisioner.left_behind:
                self._records.remove(record.kernel_id)
                self._log.info(
                    "kernel %s: ended, because its server was starting or stopping it",
                    record.kernel_id,
                )

        self.spawn(finish())

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
        if self._manager._kernels.get(kernel_id) is not kernel:
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
            self.runs(kernel, info)
            kernel.start_restarter()
            ask_whether_idle(kernel)
            self._log.info("kernel %s: restored on %s", kernel_id, provisioner.place)
            return
        why = lost or f"{exit_text(code)}. {provisioner.reason}".strip()
        self._ended(self._records.get(kernel_id) or record, why)
        text = self._text(why)
        self.spawn(bury(self._manager, kernel_id, kernel, text))

    def _ended(self, record: Record, why: str) -> None:
        """A kernel ended while there was no server. Its notebooks get new kernels."""
        host = record.info["host"]
        self._log.warning("kernel %s on %s: ended in the meantime: %s", record.kernel_id, host, why)
        self._notices.update((s["path"], self._text(why)) for s in record.sessions if s.get("path"))
        self._records.remove(record.kernel_id)

    @staticmethod
    def _text(why: str) -> str:
        return f"The kernel ended while there was no server: {why}"

    async def _restart(self, kernel_id: str) -> None:
        try:
            await self._manager.restart_kernel(kernel_id, now=True)
        except Exception as error:  # the requested restart fails, as it would have before
            self._log.error("kernel %s: cannot be restarted: %s", kernel_id, error)
        else:
            self._log.info("kernel %s: restarted, because its server was restarting it", kernel_id)

    # -- the end of this process ------------------------------------------------------------

    async def _leave_running(self) -> None:
        for kernel_id, kernel in kernels_of(self._manager):
            staying = kernel.provisioner.leave_kernels_running
            if staying and await kernel.provisioner.poll() is None:
                self._log.info("kernel %s: left running on %s", kernel_id, kernel.provisioner.place)
                await detach(self._manager, kernel_id, kernel)


@functools.cache
def _our_provisioners() -> set[str]:
    group = entry_points(group="jupyter_client.kernel_provisioners")
    return {entry.name for entry in group if entry.value.partition(".")[0] == _PACKAGE}
