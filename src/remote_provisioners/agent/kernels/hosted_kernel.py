"""A kernel in the agent's care: its directory, its endpoints and its process.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
from typing import Any, Callable, Dict, Iterator, Optional

from ...protocol.agent_requests import GpuRequest, OutputBounds, Start
from ...protocol.answers import (
    CANCELLED,
    NO_GPUS,
    NO_PORTS,
    NO_PROGRAM,
    KernelDescription,
)
from ...protocol.conventions import CHANNELS, LEASE_SECONDS, ipc_ports
from .. import apart
from ..channels.endpoints import (
    PortReservation,
    PortsTakenError,
    ipc_prefix,
    remove_sockets,
    write_connection,
)
from ..channels.listening import until_kernel_listens
from ..errors import RefusedError, start_error
from ..forking.warm_kernels import PREFIX, WarmKernels, recipe_of, remove
from ..log import say
from ..machine import gpus as devices
from ..processes.foreign_process import ForeignProcess, recorded_process
from ..processes.kernel_process import KernelProcess
from ..processes.process_identity import boot_id, start_time
from . import environment
from . import kernel_record as record
from .preparation import BaseEnvironment, prepare


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Turn the errors of a start into the errors that a server gets."""
    try:
        yield
    except environment.CommandError as error:
        raise RefusedError(NO_PROGRAM, str(error)) from None
    except PortsTakenError as error:
        raise RefusedError(NO_PORTS, str(error)) from None
    except OSError as error:
        raise start_error(error) from None


class HostedKernel:
    """One kernel: started, watched until it listens, kept until its server forgets it."""

    def __init__(self, kernel_id: str, owner: str, parent_directory: str) -> None:
        self.kernel_id = kernel_id
        self.owner = owner
        # A name of fixed length for any id: the path of a unix socket has 107 bytes at most.
        name = hashlib.sha256(kernel_id.encode("utf-8", "surrogateescape")).hexdigest()[:10]
        self.directory = os.path.join(parent_directory, name)
        self.connection: Dict[str, Any] = {}
        self.listening = False
        #: Its server has no answer to its start yet.
        self.starting = True
        self.process: Optional[KernelProcess] = None
        #: Nobody wants it any more: it is being ended; if it has not started yet, it will not.
        self.given_up = False
        #: Its server has sent it SIGKILL.
        self.told_to_end = False
        #: How much of its output is kept.
        self.output = OutputBounds()
        #: Seconds that it lives on without its owner.
        self.lease = LEASE_SECONDS
        #: Seconds that it may idle without its owner; 0: for the whole lease.
        self.left_idle = 0.0
        #: Why it was ended (lease, idle, out of memory); "" if it was not.
        self.ended_by = ""
        #: The digest of its kernelspec's files here; "" if it has none.
        self.resources = ""
        #: Whether its record on the disk is up to date.
        self.saved = True
        self._cwd = ""
        self._last_words: Optional[str] = None
        self._started_before = False
        self._reports_endpoints = False
        self._trial_seconds = 0.0
        self._ports: Optional[PortReservation] = None
        self._gpus = devices.Held()
        self._watch: Optional[asyncio.Future[None]] = None

    async def take_gpus(self, wanted: GpuRequest, gpus: devices.Gpus) -> None:
        """Take the GPUs that are wanted, before :meth:`start`. Raises RefusedError."""
        try:
            self._gpus = await gpus.take(wanted.fields(), self._gpus)
        except devices.NoDevicesError as error:
            raise RefusedError(NO_GPUS, str(error)) from None
        except OSError as error:
            raise start_error(error) from None

    async def start(
        self,
        request: Start,
        base: BaseEnvironment,
        warm: WarmKernels,
        resource_directory: str,
        on_listening: Callable[[HostedKernel], None],
    ) -> None:
        """Start the process as `request` says. Raises RefusedError."""
        self._reports_endpoints = request.reports_endpoints
        self._trial_seconds = float(request.trial)
        with _refusals():
            prepared = await prepare(request, base, resource_directory)
            self._cwd = prepared.cwd
            recipe = None
            if not self._started_before:
                recipe = recipe_of(request, prepared.argv, prepared.environ, prepared.private)
            spare = await warm.take(recipe) if recipe is not None else None
            if spare is not None:
                self.directory = spare.directory
            else:
                prepared = await prepared.with_history()
            self.connection = await apart.turns.run(
                self.directory, lambda: self._prepare(request, bound=spare is not None)
            )
            variables = devices.variables(request.gpus.fields(), self._gpus, dict(request.env))
            command = prepared.command(self.directory, variables)
            self._refuse_if_given_up()
            if spare is not None:
                self.process = spare.process  # from here on we have to end it
                self.process.way = "warm"
                await spare.assign(command, request.connection["key"])
            else:
                self.process = await warm.templates.start(
                    command, prepared.private, tuple(request.preload)
                )
            if recipe is not None:
                warm.want(recipe, request.warm)
            await self._gpus.give_to(self.process.pid)
            record_now = self._record()
            await apart.turns.run(self.directory, lambda: record.write(self.directory, record_now))
            self._refuse_if_given_up()  # meanwhile; our caller ends it
        self._watch_endpoints(on_listening)

    def _refuse_if_given_up(self) -> None:
        if self.given_up:
            raise RefusedError(CANCELLED, "the start was cancelled")

    def _watch_endpoints(self, on_listening: Callable[[HostedKernel], None]) -> None:
        if not self._reports_endpoints:
            self._watch = asyncio.ensure_future(self._until_listening(on_listening))

    # -- through the end of its agent --------------------------------------------------------

    def _record(self) -> record.Record:
        assert self.process is not None
        return {
            "kernel_id": self.kernel_id,
            "owner": self.owner,
            "pid": self.process.pid,
            "start_time": start_time(self.process.pid) or 0,
            "boot_id": boot_id(),
            "started": self.process.started,
            "cwd": self._cwd,
            "connection": self.connection,
            "listening": self.listening,
            "reports_endpoints": self._reports_endpoints,
            "gpus": self._gpus.names,
            "ports": self._ports.ports if self._ports is not None else [],
            "exit_code": self.process.returncode,
            "lease": self.lease,
            "left_idle": self.left_idle,
            "ended_by": self.ended_by,
            "output": self.output.fields(),
            "resources": self.resources,
        }

    def save(self) -> None:
        """Write the record again, so that a next agent knows what has changed."""
        if self.given_up:
            return  # the files may be those of a later start
        directory = self.directory
        try:
            now = self._record()
        except OSError as error:  # no descriptor is free
            self._written(None, error)
            return
        apart.turns.begin(directory, lambda: record.write(directory, now), self._written)

    def _written(self, result: None, error: Optional[BaseException]) -> None:
        self.saved = error is None
        if error is not None:
            say("kernel {}: cannot write its record: {}".format(self.kernel_id, error))

    @property
    def last_words_missing(self) -> bool:
        """Whether the process has ended and its last output was not read yet."""
        return self.process is not None and not self.running and self._last_words is None

    async def read_last_words(self) -> None:
        """Read the last output of a process that has ended, and wait until its record is written.

        Before that, no server gets the kernel's description.
        """
        if self.process is not None and self._last_words is None:
            try:
                self._last_words = await apart.turns.run(self.directory, self.process.tail)
            except OSError as error:
                self._last_words = str(error)

    async def files_done(self) -> None:
        """Wait until its files are as they should be, but not for a file system that hangs."""
        try:
            await apart.turns.run(self.directory, lambda: None)
        except OSError as error:
            say("kernel {}: {}".format(self.kernel_id, error))

    @classmethod
    def recorded(cls, found: record.Record, directory: str) -> HostedKernel:
        """The kernel of the record in `directory`: it runs, or it has ended in the meantime.

        Reserves its ports where that is possible. The caller then calls `keep_gpus`.
        Raises RecordError when the directory belongs to another kernel.
        """
        parent, name = os.path.split(directory)
        kernel = cls(found["kernel_id"], found["owner"], parent)
        if kernel.directory != directory and not name.startswith(PREFIX):
            text = "{} names another kernel, {!r}"
            raise record.RecordError(text.format(directory, kernel.kernel_id))
        kernel.directory, kernel.starting = directory, False
        kernel.connection = found["connection"]
        kernel.lease, kernel.ended_by = found["lease"], found["ended_by"]
        kernel.left_idle = float(found.get("left_idle", 0.0))
        kernel.resources = str(found.get("resources", ""))
        kernel.output = record.output_bounds(found)
        kernel._cwd = found["cwd"]
        kernel._reports_endpoints = found["reports_endpoints"]
        kernel._gpus = devices.Held(found["gpus"])
        kernel.process = recorded_process(found, directory)
        kernel.process.started = found["started"]
        kernel.listening = found["listening"] and kernel.running
        if not kernel.running:
            kernel._last_words = kernel.process.tail()
        if found["ports"]:
            kernel._ports = PortReservation.of(found["ports"])
        return kernel

    def keep_gpus(self, gpus: devices.Gpus) -> None:
        """Keep the GPUs of a kernel that was found by its record: no other kernel may get them."""
        process = self.process
        if self.running and isinstance(process, ForeignProcess) and self._gpus.names:
            self._gpus = gpus.keep(self._gpus.names, process.pid, process.start_time)

    def watch(
        self, on_listening: Callable[[HostedKernel], None], on_end: Callable[[], None]
    ) -> None:
        """Watch a running kernel that was found by its record."""
        if isinstance(self.process, ForeignProcess):
            self.process.watch(on_end)
        if not self.listening:
            self._watch_endpoints(on_listening)

    def _prepare(self, request: Start, bound: bool) -> Dict[str, Any]:
        """Make its directory, choose its endpoints on this host, and write its connection file if
        it reads one. Called in a thread.

        A restart uses the endpoints of the earlier start again. `bound`: the kernel (a warm one)
        listens already.
        """
        os.makedirs(self.directory, 0o700, exist_ok=True)
        record.remove(os.path.join(self.directory, record.NAME))  # of an earlier start
        connection: Dict[str, Any] = dict(request.connection)
        ports = ipc_ports()
        if connection["transport"] == "ipc":
            connection["ip"] = ipc_prefix(self.directory)
            if not bound:
                remove_sockets({**connection, **ports})
        else:
            connection["ip"] = "127.0.0.1"
            if self._ports is None:
                self._ports = PortReservation(len(CHANNELS), *request.port_range)
            ports = {c + "_port": port for c, port in zip(CHANNELS, self._ports.ports)}
        connection.update(ports)
        if not request.reports_endpoints:
            write_connection(self.directory, connection)
        return connection

    async def _until_listening(self, on_listening: Callable[[HostedKernel], None]) -> None:
        waiting = until_kernel_listens(self.connection)
        try:
            self.connection = await asyncio.wait_for(waiting, self._trial_seconds or None)
        except asyncio.TimeoutError:
            self.ended_by = "it bound no unix sockets for {:g} s".format(self._trial_seconds)
            assert self.process is not None
            self.process.signal(signal.SIGKILL)
            return
        if not self.running:  # cancelled as it listened: `wait_for` before Python 3.12 loses that
            return
        self.listening = True
        self.save()
        on_listening(self)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def ended(self) -> bool:
        """Whether the process has ended. Reaps it."""
        if self.process is None or self.process.reap() is None:
            return False
        self.listening = False
        self._gpus.close()
        if self._ports is not None:
            self._ports.renew()
        self.save()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        return True

    def describe(self) -> KernelDescription:
        """The description of this kernel that servers get."""
        process = self.process
        return KernelDescription(
            kernel_id=self.kernel_id,
            pid=process.pid if process else None,
            started=process.started if process else None,
            way=process.way if process else "",
            gpus=self._gpus.names if self.running else [],
            cwd=self._cwd,
            home=os.path.expanduser("~"),
            connection=self.connection,
            listening=self.listening,
            exit_code=process.returncode if process else None,
            tail=self._last_words or "",
            lease=self.lease,
            ended_by=self.ended_by,
        )

    def resolve(self, path: str) -> str:
        """The absolute path of what the kernel calls `path`; "" when nothing is there."""
        found = os.path.normpath(os.path.join(self._cwd, os.path.expanduser(path)))
        return found if os.path.isabs(found) and os.path.exists(found) else ""

    def take_over(self, earlier: HostedKernel) -> None:
        """Use the directory, the ports and the GPUs of the kernel's earlier process."""
        self.directory, self._started_before = earlier.directory, True
        self._ports, earlier._ports = earlier._ports, None
        self._gpus, earlier._gpus = earlier._gpus, devices.Held()

    def discard(self, files: bool) -> None:
        """Give up its ports, and remove its directory if `files`. Give up its GPUs if it has ended;
        otherwise the caller calls :meth:`free_gpus` at its end.
        """
        if self._watch is not None:
            self._watch.cancel()
        if self._ports is not None:
            self._ports.close()
        if not self.running:
            self.free_gpus()
        if files:
            remove(self.directory)

    def free_gpus(self) -> None:
        """Give up its GPUs: its process has ended."""
        self._gpus.close()
