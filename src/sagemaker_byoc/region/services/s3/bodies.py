"""The body of an S3 request: decoded from aws-chunked, hashed and verified while it is stored."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar

from sagemaker_byoc.region.core.threads import Threads
from sagemaker_byoc.region.services.s3.store import checksums
from sagemaker_byoc.region.services.s3.store.commits import Change, Commits
from sagemaker_byoc.region.services.s3.store.objects import S3Error
from sagemaker_byoc.region.wire.http import Request, sha256_mismatch

_LONGEST_LINE = 8 << 10


class ChunkedDecoder:
    """A decoder that gets pieces of any size and yields the payload."""

    def __init__(self) -> None:
        self.trailers: dict[str, str] = {}
        self.ended = False
        self._line = bytearray()
        self._left = 0
        self._after_chunk = False
        self._in_trailers = False

    def feed(self, data: bytes) -> Iterator[memoryview]:
        """Yield the payload in `data`; raise S3Error InvalidRequest if the body is not valid."""
        view, position = memoryview(data), 0
        while position < len(data):
            if self._left:
                piece = view[position : position + self._left]
                self._left -= len(piece)
                position += len(piece)
                self._after_chunk = self._left == 0
                yield piece
                continue
            end = data.find(b"\n", position)
            self._line += view[position : len(data) if end < 0 else end + 1]
            if len(self._line) > _LONGEST_LINE:
                raise _malformed("a chunk's head is too long")
            position = len(data) if end < 0 else end + 1
            if end >= 0:
                line = self._line.decode("latin-1").strip()
                self._line.clear()
                self._read(line)

    def _read(self, line: str) -> None:
        if self._after_chunk:
            self._after_chunk = False
            if line:
                raise _malformed("a chunk is longer than it says")
        elif self._in_trailers:
            name, _, value = line.partition(":")
            if line:
                self.trailers[name.strip().lower()] = value.strip()
            else:
                self.ended = True
        else:
            size = line.partition(";")[0].strip()
            try:
                self._left = int(size, 16)
            except ValueError:
                raise _malformed(f"{size[:40]!r} is not a size in hex") from None
            if self._left < 0:
                raise _malformed("a negative size")
            self._in_trailers = self._left == 0

    def finish(self) -> None:
        """Raise S3Error IncompleteBody without a last chunk; an empty line may be missing."""
        if not self._in_trailers:
            raise S3Error("IncompleteBody", "The request body terminated unexpectedly")
        if self._line:
            self._read(self._line.decode("latin-1").strip())


def _malformed(what: str) -> S3Error:
    return S3Error("InvalidRequest", f"The body is not aws-chunked: {what}")


_HEX_SHA256 = 64
MAX_PUT = 5 << 30
"""S3's limit for one put and for one part: 5 GiB."""


class Sink(Protocol):
    """A target of the bytes: the writer of an object or of a part."""

    @property
    def md5(self) -> bytes: ...
    @property
    def size(self) -> int: ...
    def write(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def abort(self) -> None: ...


S = TypeVar("S", bound=Sink)
T = TypeVar("T")


class Incoming(Generic[S]):
    """A body that is being stored. `open_sink` is called in the thread of the first write, with the
    announced length. `also` are checksums that are computed even if the client does not send them.
    A body that is not `sized` has no length in the headers, such as the file of a form. A body over
    `most` bytes is refused."""

    def __init__(
        self,
        request: Request,
        open_sink: Callable[[int], S],
        also: Iterable[str] = (),
        *,
        sized: bool = True,
        most: int = MAX_PUT,
    ) -> None:
        headers = request.headers
        self._body = request.body
        self._open_sink = open_sink
        self._sink: S | None = None
        self._most = most
        sha256 = headers.get("x-amz-content-sha256", "")
        self._signed = hashlib.sha256() if len(sha256) == _HEX_SHA256 else None
        self._sha256 = sha256.lower()
        encodings = headers.get("content-encoding", "")
        announced = "x-amz-decoded-content-length" in headers
        chunked = sha256.startswith("STREAMING-") or ("aws-chunked" in encodings and announced)
        self._decoder = ChunkedDecoder() if chunked else None
        self.length = _length(request, chunked=chunked) if sized else None
        self._md5 = _digest(headers.get("content-md5"), 16)
        self._stated = checksums.stated(headers)
        trailers = headers.get("x-amz-trailer", "").lower()
        _check_algorithm(headers, self._stated, trailers)
        names = {name for name in checksums.ALGORITHMS if trailers == checksums.PREFIX + name}
        self._running = {
            name: checksums.start(name) for name in sorted(names | {*self._stated, *also})
        }
        self.checksums: dict[str, str] = {}

    @property
    def sink(self) -> S:
        if self._sink is None:
            self._sink = self._open_sink(self.length or 0)
        return self._sink

    async def store(self, threads: Threads, commit: Callable[[S], T]) -> T:
        """Receive and verify the body; return what `commit` makes of its sink, in a thread.

        Raise what `finish` and `commit` raise, and ConnectionError; then nothing is kept.
        """
        try:
            rest = await threads.pump(self._body, self.feed)
        except BaseException:
            self.abort()
            raise

        def finish() -> T:
            try:
                self.feed(rest)
                self.finish()
                return commit(self.sink)
            finally:
                self.abort()

        return await threads.run(finish)

    async def submit(
        self, threads: Threads, commits: Commits, change: Callable[[S], Change[T]]
    ) -> T:
        """Receive and verify a small body; return the outcome of the change that `change` makes.

        The thread of all changes does the work: one turn of threads for a group of requests.
        Raise what `store` raises.
        """
        try:
            rest = await threads.pump(self._body, self.feed)
        except BaseException:
            self.abort()
            raise

        def finish() -> Change[T]:
            try:
                self.feed(rest)
                self.finish()
                return change(self.sink)
            except BaseException:
                self.abort()
                raise

        return await commits.commit(finish)

    def feed(self, batch: list[bytes]) -> None:
        for data in batch:
            if self._decoder is None:
                self._take(data)
            else:
                for piece in self._decoder.feed(data):
                    self._take(piece)

    def finish(self) -> None:
        """Verify the body; raise S3Error IncompleteBody, BadDigest, InvalidRequest."""
        sink = self.sink
        if self._decoder is not None:
            self._decoder.finish()
            for name, value in self._decoder.trailers.items():
                if name.startswith(checksums.PREFIX):
                    self._stated[name.removeprefix(checksums.PREFIX)] = value
        if self.length is not None and sink.size != self.length:
            raise S3Error(
                "IncompleteBody",
                "You did not provide the number of bytes specified by the Content-Length HTTP"
                " header",
            )
        if self._signed is not None and self._signed.hexdigest() != self._sha256:
            raise sha256_mismatch()
        if self._md5 is not None and self._md5 != sink.md5:
            raise S3Error(
                "BadDigest",
                "The Content-MD5 you specified did not match what we received.",
                CalculatedDigest=base64.b64encode(sink.md5).decode(),
            )
        self.checksums = {
            name: checksums.encode(running.digest()) for name, running in self._running.items()
        }
        for name, value in self._stated.items():
            if name not in self.checksums:
                raise S3Error(
                    "InvalidRequest", f"x-amz-trailer did not announce the {name} checksum"
                )
            if self.checksums[name] != value:
                raise S3Error(
                    "BadDigest",
                    f"The {name.upper()} you specified did not match the calculated checksum.",
                )

    def abort(self) -> None:
        if self._sink is not None:
            self._sink.abort()

    def _take(self, data: bytes | memoryview) -> None:
        size = self.sink.size + len(data)
        if size > self._most:
            raise _too_large(size, self._most)
        self.sink.write(data)
        if self._signed is not None:
            self._signed.update(data)
        for running in self._running.values():
            running.update(data)


def _check_algorithm(headers: Mapping[str, str], stated: Mapping[str, str], trailers: str) -> None:
    """Raise S3Error InvalidRequest if the headers contradict each other."""
    if len(stated) > 1:
        raise S3Error(
            "InvalidRequest",
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
        )
    name = headers.get("x-amz-sdk-checksum-algorithm", "").lower()
    sent = {*stated, trailers.removeprefix(checksums.PREFIX)}
    if name and "content-md5" not in headers and name not in sent:
        raise S3Error(
            "InvalidRequest",
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or"
            " x-amz-trailer headers were found.",
        )


def _length(request: Request, *, chunked: bool) -> int:
    name = "x-amz-decoded-content-length" if chunked else "content-length"
    text = request.headers.get(name, "")
    if not text.isascii() or not text.isdigit():
        if not chunked and "transfer-encoding" in request.headers:
            raise S3Error(
                "NotImplemented",
                "A header you provided implies functionality that is not implemented",
                status=501,
                Header="Transfer-Encoding",
            )
        raise S3Error(
            "MissingContentLength", f"You must provide the {name} HTTP header.", status=411
        )
    length = int(text)
    if length > MAX_PUT:
        raise _too_large(length, MAX_PUT)
    return length


def _too_large(size: int, most: int) -> S3Error:
    return S3Error(
        "EntityTooLarge",
        "Your proposed upload exceeds the maximum allowed size",
        ProposedSize=str(size),
        MaxSizeAllowed=str(most),
    )


def _digest(text: str | None, length: int) -> bytes | None:
    if text is None:
        return None
    try:
        digest = base64.b64decode(text, validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != length:
        raise S3Error("InvalidDigest", "The Content-MD5 you specified is not valid.")
    return digest
