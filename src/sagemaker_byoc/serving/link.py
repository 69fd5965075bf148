"""The link between the front and a model worker: whole frames over a local socket.

A frame is one packet of SOCK_SEQPACKET: a fixed header, JSON metadata, and the body, which travels
as a sealed memory file beside the packet when it is large. Neither a disk nor /dev/shm is needed.
The front and the workers import it; standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import socket
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

INLINE = 64 * 1024
"""Bodies above this go as a memory file, which is mapped and not copied."""
META = 48 * 1024
"""With INLINE and the header it stays below the default socket buffer of 208 KiB."""
BODY = 4 * 2**30
MAGIC = b"BYO1"
_HEADER = struct.Struct("!4sBBHIQQ")  # magic, kind, is body a file, zero, meta, id, body
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

Data: TypeAlias = "bytes | mmap.mmap"


class LinkError(Exception):
    """The peer sent what is not a frame; nothing after it can be trusted."""


class ClosedError(LinkError):
    """The peer is gone."""


class Kind(IntEnum):
    """Worker to front: HELLO, READY, FAILED, REPLY. Front to worker: REQUEST."""

    HELLO = 1
    READY = 2
    FAILED = 3
    REQUEST = 4
    REPLY = 5


class Body:
    """Bytes on their way: small ones as they are, large ones in a memory file."""

    __slots__ = ("data", "descriptor", "size")

    def __init__(self, data: bytes = b"", *, descriptor: int | None = None, size: int = 0) -> None:
        self.data = data
        self.descriptor = descriptor
        self.size = len(data) if descriptor is None else size

    @classmethod
    def of(cls, data: bytes) -> Body:
        """`data`, moved into a memory file if it is large."""
        if len(data) <= INLINE:
            return cls(data)
        collector = Collector()
        collector.add(data)
        return collector.body()

    def view(self) -> Data:
        """The bytes; of a memory file, a private mapping that whoever gets it may write to."""
        if self.descriptor is None:
            return self.data
        return mmap.mmap(self.descriptor, self.size, access=mmap.ACCESS_COPY)

    def close(self) -> None:
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


class Collector:
    """Gathers a body of unknown size; moves it into a memory file when it grows large."""

    def __init__(self) -> None:
        self.size = 0
        self._parts: list[bytes] = []
        self._descriptor: int | None = None

    def add(self, part: bytes) -> None:
        self.size += len(part)
        if self._descriptor is None:
            self._parts.append(part)
            if self.size <= INLINE:
                return
            self._descriptor = os.memfd_create("body", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            part = b"".join(self._parts)
            self._parts.clear()
        _write_all(self._descriptor, part)

    def body(self) -> Body:
        """What was gathered; the collector is empty after it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return Body(b"".join(self._parts))
        # Without the seal, a peer that shrinks the file would kill whoever reads the mapping.
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        return Body(descriptor=descriptor, size=self.size)

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


@dataclass(frozen=True, slots=True)
class Frame:
    """One message; `id` ties a reply to its request."""

    kind: Kind
    id: int = 0
    meta: dict[str, object] = field(default_factory=dict)
    body: Body = field(default_factory=Body)


class Link:
    """One end of a connected socket; one thread may send while another receives."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray(_HEADER.size + META + INLINE)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, frame: Frame) -> None:
        """All of it or nothing, never waiting: at most one frame is under way on a link."""
        meta = json.dumps(frame.meta, separators=(",", ":")).encode()
        body = frame.body
        if len(meta) > META or body.size > BODY:
            raise LinkError(f"frame of {len(meta)} + {body.size} bytes exceeds the limits")
        is_file = body.descriptor is not None
        header = _HEADER.pack(MAGIC, frame.kind, is_file, 0, len(meta), frame.id, body.size)
        ancillary = []
        if body.descriptor is not None:
            rights = struct.pack("i", body.descriptor)
            ancillary.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, rights))
        try:
            self._socket.sendmsg(
                [header, meta, body.data], ancillary, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
            )
        except OSError as error:
            raise ClosedError(f"send failed: {error}") from error

    def receive(self) -> Frame:
        """Wait for the next frame; ClosedError at once when the peer's process is gone."""
        try:
            size, ancillary, flags, _ = self._socket.recvmsg_into(
                [self._buffer], socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC
            )
        except OSError as error:
            raise ClosedError(f"receive failed: {error}") from error
        descriptor = _descriptor(ancillary)
        try:
            return _parse(memoryview(self._buffer)[:size], flags, descriptor)
        except LinkError:
            if descriptor is not None:
                os.close(descriptor)
            raise

    def close(self) -> None:
        with contextlib.suppress(OSError):  # the peer may have closed it first
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that receives
        self._socket.close()


def _descriptor(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS and len(data) >= 4:
            number: int = struct.unpack("i", data[:4])[0]
            return number
    return None


def _parse(packet: memoryview, flags: int, descriptor: int | None) -> Frame:
    """The frame in `packet`; `descriptor` belongs to the frame only if this returns."""
    if not packet:
        raise ClosedError("the peer closed the link")
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        raise LinkError("frame exceeds the limits")
    if len(packet) < _HEADER.size:
        raise LinkError("shorter than a header")
    magic, kind, is_file, _, meta_size, ident, body_size = _HEADER.unpack_from(packet)
    rest = packet[_HEADER.size :]
    inline = 0 if is_file else body_size
    if magic != MAGIC or meta_size > META or body_size > BODY or len(rest) != meta_size + inline:
        raise LinkError("damaged header")
    if is_file != (descriptor is not None):
        raise LinkError("body announced one way and sent another")
    try:
        meta = json.loads(bytes(rest[:meta_size]))
        name = Kind(kind)
    except (ValueError, RecursionError) as error:
        raise LinkError(f"damaged frame: {error}") from error
    if not isinstance(meta, dict):
        raise LinkError("metadata is not an object")
    if descriptor is None:
        return Frame(name, ident, meta, Body(bytes(rest[meta_size:])))
    if os.fstat(descriptor).st_size < body_size:
        raise LinkError("memory file is shorter than announced")
    return Frame(name, ident, meta, Body(descriptor=descriptor, size=body_size))
