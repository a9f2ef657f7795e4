"""One connection of a server that works with files: requests in turn, in a thread of its own.

A slow or dead file system holds up this connection only. Standard library only: this module
travels to hosts.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import Any

from ...protocol import files
from ...protocol.files import CHUNK, CHUNK_BYTES, FileAnswer, FileRequest
from ...protocol.structure import FieldError
from ...protocol.wire import encode
from .content import NewContent
from .entries import entry_of, listed
from .operations import answer, open_file, refusal
from .places import Place, PlaceError, Roots

_HEADER = struct.Struct(">I")
_LONGEST = 256 * 1024


class _Over(Exception):
    """The connection has ended, or cannot go on."""


class Session:
    """Serves one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def serve(self) -> None:
        """Answer requests until the server closes the connection."""
        try:
            while True:
                self._serve(FileRequest.read(self._frame()))
        except (OSError, FieldError, ValueError, _Over):
            pass
        finally:
            self._socket.close()

    def _serve(self, request: FileRequest) -> None:
        """Raises OSError of the connection, _Over."""
        if request.op == files.LIST:
            self._list(request)
        elif request.op == files.READ:
            self._read(request)
        elif request.op == files.WRITE:
            self._write(request)
        else:
            try:
                said = answer(request)
            except KeyError:
                said = FileAnswer(error=files.FAILED, message="unknown operation " + request.op)
            except Exception as error:
                said = refusal(error)
            self._say(said)

    def _list(self, request: FileRequest) -> None:
        groups = listed(Roots(request.roots), request)
        first = True
        while True:
            try:
                group = next(groups)
            except Exception as error:
                self._say(refusal(error))
                if not first:
                    raise _Over() from None
                return
            if first:
                self._say(FileAnswer())
            first = False
            self._say(group)
            if not group.more:
                return

    def _read(self, request: FileRequest) -> None:
        try:
            with Roots(request.roots).place(request.root, request.path) as place:
                descriptor = open_file(place)
                found = Place(place.directory, place.name, os.fstat(descriptor))
                entry = entry_of(found, os.path.basename(request.path))
        except Exception as error:
            self._say(refusal(error))
            return
        try:
            self._say(FileAnswer(entry=entry))
            offset = request.offset
            while True:
                try:
                    data = os.pread(descriptor, CHUNK_BYTES, offset)
                except OSError as error:
                    self._socket.sendall(CHUNK.pack(0))
                    self._say(refusal(error))
                    raise _Over() from None
                self._socket.sendall(CHUNK.pack(len(data)))
                if not data:
                    break
                self._socket.sendall(data)
                offset += len(data)
            self._say(FileAnswer())
        finally:
            os.close(descriptor)

    def _write(self, request: FileRequest) -> None:
        try:
            place = Roots(request.roots).place(request.root, request.path)
        except Exception as error:
            self._say(refusal(error))
            return
        with place:
            try:
                content = NewContent(place, request)
            except Exception as error:
                self._say(refusal(error))
                return
            try:
                self._say(FileAnswer(offset=content.size))
                self._receive(place, content)
            finally:
                content.close()  # while its directory is open

    def _receive(self, place: Place, content: NewContent) -> None:
        failed = None
        try:
            while True:
                data = self._chunk()
                if not data:
                    break
                content.write(data)
            place.found = content.keep()
            entry = entry_of(place, place.name)
        except (PlaceError, OSError) as error:
            failed = error
        if failed is not None:  # the server may still be sending, so the connection ends
            self._say(refusal(failed))
            raise _Over()
        self._say(FileAnswer(entry=entry))

    # -- the connection ---------------------------------------------------------------------

    def _say(self, said: Any) -> None:
        self._socket.sendall(encode(said.fields()))

    def _frame(self) -> Any:
        (length,) = _HEADER.unpack(self._exactly(_HEADER.size))
        if length > _LONGEST:
            raise _Over()
        return json.loads(self._exactly(length))

    def _chunk(self) -> bytes:
        (length,) = CHUNK.unpack(self._exactly(CHUNK.size))
        if length > 4 * CHUNK_BYTES:
            raise _Over()
        return self._exactly(length)

    def _exactly(self, size: int) -> bytes:
        data = bytearray(size)
        view, position = memoryview(data), 0
        while position < size:
            received = self._socket.recv_into(view[position:])
            if not received:
                raise _Over()
            position += received
        return bytes(data)
