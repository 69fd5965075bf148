"""Pipe mode: the region's end of `CHANNEL_EPOCH`, one FIFO per epoch, until the job is over.

A FIFO is written to as soon as a program has opened it. A program that closes it, early or at its
end, finds the next one. Nothing is fed ahead of the reader; one chunk is held in memory.

RecordIO, as the service writes it: one object or attribute is one record, which is a magic word, a
word of flag and length, the payload, and padding to a multiple of four. A payload above 2^29 - 1
bytes is cut into parts, marked first, middle and last.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import select
import struct
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import RecordWrapper
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.s3.store.objects import parse_s3_uri
from sagemaker_byoc.region.services.sagemaker.jobs.inputs import (
    ChannelPlan,
    DataType,
    DownloadError,
    Item,
    find_lines,
    share,
)

LOG = logging.getLogger(__name__)

CHUNK = 1 << 20
REFERENCE = "-ref"
"""Ending of an attribute's name: its value is an S3 URI, and that object goes into the pipe."""

_POLL = 0.01
_TICK_MS = 250
_GZIP = 16 + zlib.MAX_WBITS
MAGIC = 0xCED7230A
LENGTH_BITS = 29
LONGEST = (1 << LENGTH_BITS) - 1
_HEADER = struct.Struct("<II")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)


@dataclass(frozen=True, slots=True)
class Feed:
    """What one host receives through the FIFOs of one channel."""

    store: ObjectStore
    plan: ChannelPlan
    items: Sequence[Item]
    host: str
    tree: Tree


class PipeFeeder(threading.Thread):
    """The feeder of one channel of one host; `on_error` receives an error that ends the job."""

    def __init__(self, feed: Feed, on_error: Callable[[DownloadError], None]) -> None:
        super().__init__(daemon=True, name=f"pipe-{feed.host}-{feed.plan.channel.name}")
        self._store = feed.store
        self._plan = feed.plan
        self._items = feed.items
        self._host = feed.host
        self._tree = feed.tree
        self._on_error = on_error
        self._over = threading.Event()
        self._make(0)

    def close(self) -> None:
        """End the thread, within one tick and one read of an object."""
        self._over.set()
        self.join()

    def run(self) -> None:
        epoch = 0
        try:
            while not self._over.is_set():
                self._feed(epoch)
                self._pipe(epoch).unlink(missing_ok=True)
                epoch += 1
                if not self._over.is_set():
                    self._make(epoch)
        except DownloadError as error:
            self._on_error(error)
        except Exception as error:  # else the program would wait forever
            LOG.exception("channel %s", self._plan.channel.name)
            self._on_error(DownloadError(f"channel {self._plan.channel.name!r}: {error}"))

    def _pipe(self, epoch: int) -> Path:
        return self._tree.root / f"{self._plan.folder}_{epoch}"

    def _make(self, epoch: int) -> None:
        path = self._pipe(epoch)
        os.mkfifo(path)
        path.chmod(0o666)  # the container may run as any user

    def _feed(self, epoch: int) -> None:
        pipe = self._open(self._pipe(epoch))
        if pipe is None:
            return
        try:
            for chunk in self._chunks(epoch):
                if not self._write(pipe, chunk):
                    return
        finally:
            os.close(pipe)

    def _open(self, path: Path) -> int | None:
        """Open the FIFO once there is a reader; None if the job ended before."""
        while not self._over.wait(_POLL):
            try:
                pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
            else:
                with suppress(PermissionError):  # above what the kernel grants this user
                    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, CHUNK)
                return pipe
        return None

    def _write(self, pipe: int, data: bytes) -> bool:
        """Return False if the reader has closed its end, or the job is over."""
        poll = select.poll()
        poll.register(pipe, select.POLLOUT)
        view = memoryview(data)
        while view:
            if self._over.is_set():
                return False
            if not poll.poll(_TICK_MS):
                continue
            try:
                view = view[os.write(pipe, view) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return False
        return True

    def _chunks(self, epoch: int) -> Iterator[bytes]:
        if self._plan.data_type is DataType.AUGMENTED:
            lines = find_lines(self._store, self._plan)
            for line in share(self._plan, lines, self._host, epoch):
                for name in self._plan.attributes:
                    yield from self._attribute(name, line[name])
        else:
            for item in share(self._plan, self._items, self._host, epoch):
                yield from self._object(item.bucket, item.key)

    def _attribute(self, name: str, value: object) -> Iterator[bytes]:
        if name.endswith(REFERENCE):
            bucket, key = parse_s3_uri(str(value))
            yield from self._object(bucket, key)
        else:
            data = (value if isinstance(value, str) else json.dumps(value)).encode()
            yield from self._framed(len(data), [data])

    def _object(self, bucket: str, key: str) -> Iterator[bytes]:
        stored = self._store.get(bucket, key)
        where = f"s3://{bucket}/{key}"
        with open(stored.path, "rb", buffering=0) as file:
            if not self._plan.gunzip:
                yield from self._framed(os.fstat(file.fileno()).st_size, _read(file))
            elif self._plan.channel.record_wrapper is RecordWrapper.NONE:
                yield from gunzip(file, where)
            else:
                yield from self._unpacked(file, where)

    def _unpacked(self, file: BinaryIO, where: str) -> Iterator[bytes]:
        """Unpack into a file first: a record begins with its length."""
        with tempfile.TemporaryFile() as plain:
            for chunk in gunzip(file, where):
                plain.write(chunk)
            size = plain.tell()
            plain.seek(0)
            yield from self._framed(size, _read(plain))

    def _framed(self, size: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
        if self._plan.channel.record_wrapper is RecordWrapper.RECORD_IO:
            yield from frame(size, chunks)
        else:
            yield from chunks


def gunzip(file: BinaryIO, where: str) -> Iterator[bytes]:
    """Yield all members, in chunks of bounded size. Raise DownloadError for incomplete gzip."""
    unpacker = zlib.decompressobj(_GZIP)
    begun = False
    for data in _read(file):
        rest = data
        chunk = b""
        # A full chunk may be followed by more, even if no input is left.
        while rest or len(chunk) == CHUNK:
            begun = True
            try:
                chunk = unpacker.decompress(rest, CHUNK)
            except zlib.error as error:
                raise DownloadError(f"{where} is not gzip ({error})") from error
            if chunk:
                yield chunk
            rest = unpacker.unconsumed_tail
            if unpacker.eof:
                rest, chunk = unpacker.unused_data, b""
                unpacker, begun = zlib.decompressobj(_GZIP), bool(rest)
    if begun:
        raise DownloadError(f"{where} ends within its gzip stream")


def _read(file: BinaryIO) -> Iterator[bytes]:
    while data := file.read(CHUNK):
        yield data


def frame(size: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the record of `size` bytes that come as `chunks`. Raise ValueError for another size."""
    rest = b""
    source = iter(chunks)
    at = 0
    while True:
        length = min(LONGEST, size - at)
        yield _HEADER.pack(MAGIC, _flag(at, length, size) << LENGTH_BITS | length)
        left = length
        while left:
            data = rest or next(source, b"")
            if not data:
                raise ValueError(f"{size - at - (length - left)} bytes are missing")
            yield data[:left]
            rest = data[left:]
            left -= min(left, len(data))
        yield b"\0" * (-length % 4)
        at += length
        if at >= size:
            break
    if rest or next(source, b""):
        raise ValueError(f"there are more than {size} bytes")


def _flag(at: int, length: int, size: int) -> int:
    if length == size:
        return _WHOLE
    if at == 0:
        return _FIRST
    return _LAST if at + length == size else _MIDDLE
