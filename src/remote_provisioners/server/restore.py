"""The kernels of a Jupyter server, through the end of one process and the start of the next.

A kernel that was left running is in the kernel manager before anybody asks for it, with its id,
its sessions and open endpoints: it counts as busy and cannot be reached, until its host has been
asked. One that has ended meanwhile is shown as dead, with the reason, until its user restarts it
or shuts it down.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import os
from collections.abc import Coroutine, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

from jupyter_client.kernelspec import NoSuchKernel
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_core.utils import ensure_async

from ..errors import KernelLostError, KernelTakenError
from .records import BadRecord, Record, Records
from .sessions import OfKernels, Sessions

#: What a kernel that has been told to end has to do so, as long as its server would have waited.
_STOP_SECONDS = 5.0
#: Whose kernels these are.
_PACKAGE = __name__.partition(".")[0]
_COMMAND = "it runs on; see `jupyter remote kernels`"


class ProvisionerInfo(dict[str, Any]):
    """What start_kernel is given; it is logged there, and has a key in it."""

    def __repr__(self) -> str:
        return f"<kernel {self.get('kernel_id')}>"


class Restorer:
    """Keeps the records of a server's kernels; brings back those of its predecessors.

    `manager` is the multi kernel manager, `root` the directory that the server serves. Lives on
    the server's event loop.
    """

    def __init__(self, manager: Any, sessions: Sessions, records: Records, root: str) -> None:
        self._manager = manager
        self._log: logging.Logger = manager.log
        self._sessions = sessions
        self._records = records
        self._root = root
        self._tasks: set[asyncio.Task[None]] = set()

    def watch(self) -> None:
        """Learn of what happens to kernels and sessions from now on."""
        self._sessions.watch(self._sessions_changed)
        manager = self._manager
        remove_kernel, shutdown_all = manager.remove_kernel, manager.shutdown_all
        shutdown_kernel, restart_kernel = manager.shutdown_kernel, manager.restart_kernel

        def remove(kernel_id: str) -> Any:
            kernel = manager._kernels.get(kernel_id)
            if not getattr(getattr(kernel, "provisioner", None), "left_behind", False):
                self._records.remove(kernel_id)
            return remove_kernel(kernel_id)

        async def stop(kernel_id: str, *args: Any, **kwargs: Any) -> Any:
            with self._doing(kernel_id, "stop"):
                return await ensure_async(shutdown_kernel(kernel_id, *args, **kwargs))

        async def restart(kernel_id: str, *args: Any, **kwargs: Any) -> Any:
            with self._doing(kernel_id, "restart"):
                return await ensure_async(restart_kernel(kernel_id, *args, **kwargs))

        async def shutdown(*args: Any, **kwargs: Any) -> None:
            for task in list(self._tasks):
                task.cancel()
            await self._leave_running()
            for record in self._records:
                if record.kernel_id in manager:
                    self._write(dataclasses.replace(record, doing="stop"))
            try:
                await ensure_async(shutdown_all(*args, **kwargs))
            finally:
                self._records.close()

        manager.remove_kernel, manager.shutdown_all = remove, shutdown
        manager.shutdown_kernel, manager.restart_kernel = stop, restart

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run it; it ends with the server."""
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- records ----------------------------------------------------------------------------

    def starts(self, kernel_manager: Any, info: Mapping[str, Any]) -> None:
        """By the provisioner, in the I/O thread, before a host is asked for a new kernel."""
        name = kernel_manager.kernel_name
        self._write(Record(info["kernel_id"], name, self._root, dict(info), doing="start"))

    def failed(self, kernel_id: str) -> None:
        """By the provisioner when that has come to nothing."""
        self._records.remove(kernel_id)

    @contextlib.contextmanager
    def _doing(self, kernel_id: str, what: str) -> Iterator[None]:
        """The record says that this is under way, until it is over or has failed."""
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
        """By the provisioner when a kernel has started, again or for the first time."""
        if getattr(kernel_manager, "execution_state", "") == "dead":
            kernel_manager.execution_state, kernel_manager.reason = "starting", ""
        kernel_id = info["kernel_id"]
        earlier = self._records.get(kernel_id)
        sessions = earlier.sessions if earlier is not None else ()
        name = kernel_manager.kernel_name
        self._write(Record(kernel_id, name, self._root, dict(info), sessions))

    def _sessions_changed(self, of_kernels: OfKernels) -> None:
        for record in self._records:
            sessions = of_kernels.get(record.kernel_id, ())
            self._write(dataclasses.replace(record, sessions=tuple(sessions)))

    def _write(self, record: Record) -> None:
        try:
            self._records.write(record)
        except (OSError, BadRecord) as error:
            self._log.error(
                "kernel %s: no record can be kept of it, another server will not find it: %s",
                record.kernel_id,
                error,
            )

    # -- the next process -------------------------------------------------------------------

    async def expect_all(self) -> None:
        """Bring back what servers of this directory left; their hosts are asked afterwards."""
        for record in self._records.claim(self._root):
            try:
                if record.doing in ("start", "stop"):
                    self._finish(record)
                else:
                    await self._expect(record)
            except Exception as error:  # of whatever manager is configured; the others go on
                self._manager._pending_kernels.pop(record.kernel_id, None)
                self._log.error(
                    "kernel %s on %s: cannot be brought back, %s: %s",
                    record.kernel_id,
                    record.info["host"],
                    _COMMAND,
                    error,
                )

    async def _expect(self, record: Record) -> None:
        kernel_id, manager = record.kernel_id, self._manager
        if kernel_id in manager:
            return
        self._spec(record.kernel_name)
        env = {n: v for n, v in os.environ.items() if not n.startswith("KERNEL_")}
        env |= record.info.get("launch", {}).get("env", {})
        # Not start_kernel, to which applications add what is for new kernels only.
        await manager._async_start_kernel(
            kernel_id=kernel_id,
            kernel_name=record.kernel_name,
            env=env,
            cwd=record.info.get("launch", {}).get("cwd"),
            provisioner_info=ProvisionerInfo(record.info),
        )
        kernel = manager.get_kernel(kernel_id)
        await ensure_async(kernel.ready)
        kernel.stop_restarter()  # until it is known to live
        kernel.execution_state = "busy"  # perhaps: who is idle may be culled
        _know_kernel_info(kernel)
        await kernel.provisioner.replay_output()
        await self._sessions.restore(kernel_id, record.sessions)
        self.spawn(self._settle(kernel_id, kernel, record))

    def _finish(self, record: Record) -> None:
        """Have a kernel ended whose stop, or whose start, was under way. Raises BadRecord."""
        provisioner: Any = KernelProvisionerFactory.instance().create_provisioner_instance(
            record.kernel_id, self._spec(record.kernel_name), parent=self._manager
        )
        seconds = _STOP_SECONDS if record.doing == "stop" else 0.0

        async def finish() -> None:
            await provisioner.finish(record.info, seconds)
            if not provisioner.left_behind:
                self._records.remove(record.kernel_id)
                self._log.info("kernel %s: ended, as its server was about to", record.kernel_id)

        self.spawn(finish())

    def _spec(self, name: str) -> Any:
        """The kernelspec of that name. Raises BadRecord: such a kernel would be another one."""
        try:
            spec = self._manager.kernel_spec_manager.get_kernel_spec(name)
        except NoSuchKernel:
            raise BadRecord(f"its kernelspec {name!r} is not installed any more") from None
        wanted = spec.metadata.get("kernel_provisioner", {}).get("provisioner_name", "")
        if wanted not in _our_provisioners():
            raise BadRecord(f"its kernelspec {name!r} is not one of remote-provisioners any more")
        return spec

    async def _settle(self, kernel_id: str, kernel: Any, record: Record) -> None:
        """Find the kernel on its host, as soon as that can be reached."""
        provisioner = kernel.provisioner
        lost = ""
        try:
            await provisioner.settle()
        except KernelTakenError as error:
            self._log.error("kernel %s: not brought back: %s", kernel_id, error)
            await self._let_go(kernel_id, kernel)
            return
        except KernelLostError as error:
            lost = f"{error}: its host was rebooted, its agent killed, or its lease ran out"
        if self._manager._kernels.get(kernel_id) is not kernel:
            return  # it was shut down meanwhile
        code = await provisioner.poll()
        info = await provisioner.get_provisioner_info()
        if not lost and provisioner.unclaimed:  # who comes next may find it: its record stays
            kernel.execution_state = "dead"
            kernel.reason = f"The kernel could not be found again: {provisioner.reason}"
            self._log.warning("kernel %s: %s; %s", kernel_id, kernel.reason, _COMMAND)
            return
        if record.doing == "restart" and (code is not None or info["pid"] == record.info["pid"]):
            await self._restart(kernel_id)
            return
        if code is None:
            self.runs(kernel, info)
            kernel.start_restarter()
            _ask_whether_idle(kernel)
            self._log.info("kernel %s: found again on %s", kernel_id, provisioner.place)
            return
        why = lost or f"exit code {code}. {provisioner.reason}".strip()
        kernel.execution_state = "dead"
        kernel.reason = f"The kernel ended while no server was there: {why}"
        self._records.remove(kernel_id)
        self._log.warning("kernel %s on %s: ended meanwhile: %s", kernel_id, provisioner.place, why)

    async def _restart(self, kernel_id: str) -> None:
        try:
            await self._manager.restart_kernel(kernel_id, now=True)
        except Exception as error:  # the restart that was asked for fails, as it would have before
            self._log.error("kernel %s: cannot be restarted: %s", kernel_id, error)
        else:
            self._log.info("kernel %s: restarted, as its server was about to", kernel_id)

    # -- the end of this process ------------------------------------------------------------

    async def _leave_running(self) -> None:
        for kernel_id, kernel in list(self._ours()):
            staying = kernel.provisioner.leave_kernels_running
            if staying and await kernel.provisioner.poll() is None:
                self._log.info("kernel %s: left running on %s", kernel_id, kernel.provisioner.place)
                await self._let_go(kernel_id, kernel)

    async def _let_go(self, kernel_id: str, kernel: Any) -> None:
        """Have nothing more to do with a kernel that goes on. Its record stays."""
        manager = self._manager
        kernel.shutting_down = True
        kernel.stop_restarter()
        manager.stop_watching_activity(kernel_id)
        manager.stop_buffering(kernel_id)
        kernel._close_control_socket()
        kernel.cleanup_connection_file()
        await kernel.provisioner.let_go()
        manager._kernels.pop(kernel_id, None)
        manager._kernel_connections.pop(kernel_id, None)

    def _ours(self) -> Iterator[tuple[str, Any]]:
        for kernel_id, kernel in self._manager._kernels.items():
            if hasattr(getattr(kernel, "provisioner", None), "leave_kernels_running"):
                yield kernel_id, kernel


@functools.cache
def _our_provisioners() -> set[str]:
    group = entry_points(group="jupyter_client.kernel_provisioners")
    return {entry.name for entry in group if entry.value.partition(".")[0] == _PACKAGE}


def _know_kernel_info(kernel: Any) -> None:
    """Have websockets not wait for an answer that says which protocol the kernel speaks.

    The server opens none before that, or before 60 s: a kernel that computes, or whose host is
    away, answers later. What is assumed then is assumed here: a protocol of this decade.
    """
    known: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    known.set_result({})
    kernel._kernel_info_future = known


def _ask_whether_idle(kernel: Any) -> None:
    """A kernel answers on its shell channel once it has nothing else to do."""
    channel = kernel.connect_shell()

    def answered(_: Any) -> None:
        channel.close()
        if kernel.execution_state == "busy":
            kernel.execution_state = "idle"

    channel.on_recv(answered)
    kernel.session.send(channel, "kernel_info_request")
