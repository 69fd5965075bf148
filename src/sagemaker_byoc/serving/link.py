"""The link between the front and a model worker: frames in packets over a local socket.

A packet of SOCK_SEQPACKET carries one or more frames, because requests that have queued are sent,
and answered, together: a fixed header, one JSON index of all frames, and the bodies. A large body
travels as a sealed memory file beside the packet. Neither a disk nor /dev/shm is needed.

Requests have a socket pair of their own, of which the front holds both ends and the worker the
receiving one: a packet that the worker has not received can be taken back. Which request of a
packet the worker began last is in memory that both share, so that it outlives the worker.

In a conversation each side keeps a window of what it has sent, so that neither a slow client nor a
slow handler makes a queue grow, and no conversation holds up another. No torch, no numpy.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import struct
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import orjson

from sagemaker_byoc.serving.bodies import INLINE, Body, BodyError, read_bundle

META = 48 * 1024
"""Largest index in bytes. With INLINE and the header it fits into the default socket buffer, 208
KiB."""
BODY = 4 * 2**30
FRAMES = 128
"""Most frames in one packet; the kernel passes at most 253 descriptors with it."""
MAGIC = b"BYO2"
_HEADER = struct.Struct("!4sBI")  # magic, whether the small bodies are in a file, size of the index
_PACKET = _HEADER.size + META + INLINE


class LinkError(Exception):
    """The peer sent something that is not a packet; nothing after it can be trusted."""


class ClosedError(LinkError):
    """The peer is gone."""


class FullError(ClosedError):
    """The peer is connected and has no room at this moment."""


class Kind(IntEnum):
    """Worker to front: HELLO, INBOX, BEGUN, READY, FAILED, PART, REPLY, RETURN, CAPTURED, FINISH.
    Front to worker: REQUEST, CANCEL, OPEN, END. Both ways: MESSAGE, TAKEN."""

    HELLO = 1
    """The worker's first frame, with the sending end for its requests as body."""
    READY = 2
    FAILED = 3
    REQUEST = 4
    REPLY = 5
    PART = 6
    """A piece of a streamed reply; REPLY ends it."""
    CANCEL = 7
    OPEN = 8
    """A conversation begins; FINISH when its handler has ended."""
    MESSAGE = 9
    TAKEN = 10
    """The oldest message has been passed on."""
    END = 11
    """No more messages from the client."""
    FINISH = 12
    CAPTURED = 13
    """An answered request and its reply, as redact_fn returned them."""
    INBOX = 14
    """Sent with HELLO: the receiving end for requests, to take back those not received."""
    BEGUN = 15
    """Sent with HELLO: the memory that tells which request was begun last."""
    RETURN = 16
    """Requests that the worker has received and will not begin: the one before them takes long."""


_KINDS = {kind.value: kind for kind in Kind}


@dataclass(slots=True)
class Frame:
    """One message; `id` ties a reply to its request."""

    kind: Kind
    id: int = 0
    meta: Mapping[str, Any] = field(default_factory=dict)
    body: Body = field(default_factory=Body)


class Link:
    """One end of a connected socket; receiving waits or not, as the socket is set."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray(_PACKET)
        self._view = memoryview(self._buffer)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, *frames: Frame, wait: bool = False) -> None:
        """Send all frames or none.

        With `wait`, wait until the peer has room, so that a stream does not overrun a slow client.
        Without it, a peer that leaves no room counts as gone.
        """
        try:
            packet, descriptors, spare = _packed(frames)
        except OSError as error:  # no descriptor or no memory is left for a file
            raise LinkError(f"the frames can't be stored: {error}") from error
        ancillary = []
        if descriptors:
            rights = struct.pack(f"{len(descriptors)}i", *descriptors)
            ancillary.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, rights))
        try:
            self._socket.sendmsg(packet, ancillary, _WAIT if wait else _DO_NOT_WAIT)
        except BlockingIOError as error:
            raise FullError("the peer has no room") from error
        except OSError as error:
            raise ClosedError(f"send failed: {error}") from error
        finally:
            spare.close()

    def receive(self, *, wait: bool = True) -> list[Frame]:
        """Return the frames of the next packet; raise ClosedError as soon as the peer's process is
        gone.

        Raise BlockingIOError if there is no packet, and the socket or this call does not wait.
        """
        how = _CLOEXEC if wait else _CLOEXEC | _DO_NOT_WAIT
        try:
            size, ancillary, flags, _ = self._socket.recvmsg_into([self._buffer], _CONTROL, how)
        except BlockingIOError:
            raise
        except OSError as error:
            raise ClosedError(f"receive failed: {error}") from error
        if not ancillary:
            return _parse(self._view[:size], flags, [])
        files = _descriptors(ancillary)
        try:
            return _parse(self._view[:size], flags, files)
        finally:
            for file in files:  # those that no frame has taken
                file.close()

    def take_ids(self) -> list[int]:
        """Return the ids of the next packet's frames; drop their bodies, whatever they are.

        Raise BlockingIOError if there is no packet. A packet without ids, which only a worker can
        have put there, has none.
        """
        size = self._socket.recv_into(self._buffer, 0, _DO_NOT_WAIT)
        if size < _HEADER.size:
            return []
        _, _, index = _HEADER.unpack_from(self._buffer)
        try:
            entries = orjson.loads(self._view[_HEADER.size : _HEADER.size + index])
            return [int(entry[1]) for entry in entries]
        except (ValueError, TypeError, LookupError, OverflowError):
            return []

    def shut(self) -> None:
        """End the connection for every process that holds it."""
        with contextlib.suppress(OSError):  # the peer may have closed it first
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.shut()
        with contextlib.suppress(OSError):  # a handler may have closed its descriptor
            self._socket.close()


def connected_by(body: Body) -> Link:
    """Return a link over the socket that came as a body; raise LinkError if it is not one."""
    assert body.descriptor is not None
    descriptor = os.dup(body.descriptor)
    try:
        connection = socket.socket(fileno=descriptor)
    except OSError as error:
        os.close(descriptor)
        raise LinkError(f"not a socket: {error}") from error
    if connection.type != socket.SOCK_SEQPACKET or connection.family != socket.AF_UNIX:
        connection.close()
        raise LinkError("a socket of another type")
    return Link(connection)


def requests_of(frames: list[Frame]) -> list[Frame]:
    """Return the frames; raise LinkError if one is not a request."""
    for frame in frames:
        if frame.kind is not Kind.REQUEST:
            raise LinkError(f"the front must not send {frame.kind.name} as a request")
    return frames


_ID = struct.Struct("=Q")


class Begun:
    """The id of the request that a worker began last. The worker writes it into memory that the
    front can read after the worker's death."""

    def __init__(self) -> None:
        descriptor = os.memfd_create("begun", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, _ID.size)
        self._memory = memoryview(mmap.mmap(descriptor, _ID.size)).cast("Q")
        self.body = Body(descriptor=descriptor)

    def set(self, ident: int) -> None:
        self._memory[0] = ident


def begun_of(body: Body) -> int:
    """Return the id in the memory of a worker, 0 if it has none: it is read, and not mapped, since
    the worker may have made it shorter."""
    assert body.descriptor is not None
    try:
        data = os.pread(body.descriptor, _ID.size, 0)
    except OSError:
        return 0
    return int(_ID.unpack(data)[0]) if len(data) == _ID.size else 0


@dataclass(frozen=True, slots=True)
class Ends:
    """What a worker holds of its connection to the front."""

    link: Link
    inbox: Link
    """Requests arrive on it."""
    begun: Begun

    @classmethod
    def connected(cls, address: str, greeting: Mapping[str, object]) -> Ends:
        """Connect and greet the front; raise OSError or ClosedError if it is not there."""
        with contextlib.ExitStack() as failed:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            failed.callback(connection.close)
            inbox, outlet = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            failed.callback(inbox.close)
            sending = Body(descriptor=outlet.detach())
            receiving = Body(descriptor=os.dup(inbox.fileno()))
            for end in (connection, inbox):
                end.settimeout(None)  # user code may have set another default
            ends = cls(Link(connection), Link(inbox), Begun())
            connection.connect(address)
            ends.link.send(
                Frame(Kind.HELLO, 0, greeting, sending),
                Frame(Kind.INBOX, 0, {}, receiving),
                Frame(Kind.BEGUN, 0, {}, ends.begun.body),
            )
            failed.pop_all()
        return ends

    def close(self) -> None:
        self.link.close()
        self.inbox.close()


_CONTROL = socket.CMSG_SPACE(4 * (FRAMES + 1))
# As plain integers: each operation on socket's own flags makes a new one, several for each packet.
_WAIT = int(socket.MSG_NOSIGNAL)
_DO_NOT_WAIT = int(socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
_CLOEXEC = int(socket.MSG_CMSG_CLOEXEC)
_CUT = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)


def _packed(frames: Sequence[Frame]) -> tuple[list[bytes], list[int], Body]:
    """Return the packet's parts, the descriptors, and a bundle file to close after sending.

    The index holds, for each frame: kind, id, size of the body, whether it is a file, metadata.
    """
    entries = []
    small: list[bytes] = []
    files: list[int] = []
    total = 0
    for frame in frames:
        body = frame.body
        descriptor = body.descriptor
        if descriptor is None:
            small.append(body.data)
            total += body.size
        else:
            files.append(descriptor)
        entries.append((frame.kind, frame.id, body.size, descriptor is not None, frame.meta))
    try:
        index = orjson.dumps(entries)
    except TypeError as error:
        raise LinkError(f"the metadata is not JSON: {error}") from error
    if len(index) > META or len(frames) > FRAMES or any(frame.body.size > BODY for frame in frames):
        raise LinkError(f"{len(frames)} frames with an index of {len(index)} bytes are too much")
    if total <= INLINE:
        return [_HEADER.pack(MAGIC, 0, len(index)), index, *small], files, Body()
    spare = Body.filed(b"".join(small))
    assert spare.descriptor is not None
    return [_HEADER.pack(MAGIC, 1, len(index)), index], [spare.descriptor, *files], spare


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[Body]:
    found: list[Body] = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4])
            found += [Body(descriptor=number) for number in numbers]
    return found


def _parse(packet: memoryview, flags: int, files: list[Body]) -> list[Frame]:
    """Return the frames in `packet`; files that frames use are removed from `files`."""
    if not packet:
        raise ClosedError("the peer closed the link")
    if flags & _CUT:
        raise LinkError("packet exceeds the limits")
    if len(packet) < _HEADER.size:
        raise LinkError("shorter than a header")
    magic, is_bundled, size = _HEADER.unpack_from(packet)
    start = _HEADER.size + size
    if magic != MAGIC or is_bundled > 1 or start > len(packet):
        raise LinkError("damaged header")
    rest = bytes(packet[start:])
    if is_bundled:
        if rest or not files:
            raise LinkError("bodies announced in a file that is missing")
        rest = _of_file(files.pop(0))
    try:
        entries = orjson.loads(packet[_HEADER.size : start])
        frames, used = _frames(entries, rest, files)
    except (ValueError, TypeError, KeyError, BodyError) as error:
        raise LinkError(f"damaged index: {error}") from error
    if used != len(rest) or files:
        raise LinkError("the index does not fit what came with it")
    return frames


def _of_file(file: Body) -> bytes:
    try:
        return read_bundle(file)
    except BodyError as error:
        raise LinkError(str(error)) from error


def _frames(entries: Any, rest: bytes, files: list[Body]) -> tuple[list[Frame], int]:
    frames = []
    used = 0
    for kind, ident, size, is_file, meta in entries:
        if not isinstance(meta, dict) or not isinstance(ident, int) or not 0 <= size <= BODY:
            raise ValueError("an entry has a wrong type")
        if is_file:
            if not files:
                raise ValueError("a file is missing")
            body = files.pop(0).announced(size)
        else:
            body = Body(rest[used : used + size])
            used += size
            if body.size != size:
                raise ValueError("a body is missing")
        frames.append(Frame(_KINDS[kind], ident, meta, body))
    return frames, used


SMALL = 1024
"""Bytes of a conversation's message that travel in the packet itself: there are many messages, and
the front's end of the link must never be full."""
MESSAGES = 8
BYTES = 2**20
"""Bytes in flight from which the next message waits; a single message may be larger."""


def body_of(message: bytes) -> Body:
    """Return the body of a message; a large one travels beside the packet."""
    return Body(message) if len(message) <= SMALL else Body.filed(message)


class Window:
    """The messages in flight, in order."""

    def __init__(self) -> None:
        self._sizes: deque[int] = deque()
        self._sum = 0

    @property
    def is_open(self) -> bool:
        return len(self._sizes) < MESSAGES and self._sum < BYTES

    def sent(self, size: int) -> None:
        self._sizes.append(size)
        self._sum += size

    def taken(self) -> None:
        """Record that the peer has passed on the oldest message."""
        if self._sizes:
            self._sum -= self._sizes.popleft()
