"""Keeps the records of a server's kernels up to date, from the start of each to its end."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..session_table import OfKernels
from .record import BadRecord, Record
from .records import Records


class RecordKeeper:
    """The keeper of one Jupyter server's records. Lives on the server's event loop.

    `root`: the server's root directory. `server`: the name that a hub has given it.
    """

    def __init__(self, records: Records, root: str, server: str, log: logging.Logger) -> None:
        self._records = records
        self._root = root
        self._server = server
        self._log = log
        #: Hosts whose leftover kernels were already reported.
        self._reported: set[str] = set()
        #: The sessions of each kernel, including kernels without a record.
        self._of_kernels: OfKernels = {}

    def get(self, kernel_id: str) -> Record | None:
        return self._records.get(kernel_id)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def adopt(self) -> Sequence[Record]:
        """Adopt the records that servers of this directory left."""
        return self._records.adopt(self._root, self._server)

    @property
    def of_others(self) -> Sequence[Record]:
        """The records that `adopt` left, because they belong to other servers that have ended."""
        return self._records.of_others

    # -- what provisioners tell ---------------------------------------------------------------

    def starts(self, kernel_manager: Any, info: Mapping[str, Any]) -> None:
        """A host is about to get a start request."""
        earlier = self._records.get(info["kernel_id"])  # of an earlier try, or a kernel that moves
        doing = "start" if earlier is None or earlier.doing == "start" else "restart"
        self._write(self._record(kernel_manager, info, doing=doing))

    def failed(self, kernel_id: str) -> None:
        """The start failed, and nothing is left of the kernel."""
        self._records.remove(kernel_id)

    def runs(self, kernel_manager: Any, info: Mapping[str, Any]) -> None:
        """The kernel has started or restarted."""
        if getattr(kernel_manager, "execution_state", "") == "dead":
            kernel_manager.execution_state, kernel_manager.reason = "starting", ""
        self._write(self._record(kernel_manager, info))
        self._report_left(kernel_manager.provisioner)

    def _report_left(self, provisioner: Any) -> None:
        """Tell the operator, once for each host, of kernels there that no server has."""
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

    # -- what the server does -----------------------------------------------------------------

    @contextlib.contextmanager
    def doing(self, kernel_id: str, what: str) -> Iterator[None]:
        """Note an operation in the record until it succeeds or fails."""
        self.note(kernel_id, what)
        try:
            yield
        except BaseException:
            self.note(kernel_id, "")
            raise
        if what == "restart":
            self.note(kernel_id, "")

    def note(self, kernel_id: str, what: str) -> None:
        """Note the operation in progress; "": there is none."""
        record = self._records.get(kernel_id)
        if record is not None:
            self._write(dataclasses.replace(record, doing=what))

    def note_sessions(self, of_kernels: OfKernels) -> None:
        """Note the present sessions of all kernels."""
        self._of_kernels = of_kernels
        for record in self._records:
            its = tuple(of_kernels.get(record.kernel_id, ()))
            if its != record.sessions:
                self._write(dataclasses.replace(record, sessions=its))

    def remove(self, kernel_id: str) -> None:
        """Nothing is left of the kernel."""
        self._records.remove(kernel_id)

    def close(self) -> None:
        """Leave the records to the next server."""
        self._records.close()

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

    def _write(self, record: Record) -> None:
        try:
            self._records.write(record)
        except (OSError, BadRecord) as error:
            self._log.error(
                "kernel %s: cannot write its record, so the next server will not find it: %s",
                record.kernel_id,
                error,
            )
