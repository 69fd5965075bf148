"""Bodies in `aws-chunked`: sizes in hex, signatures of chunks (not checked), checksums behind."""

from __future__ import annotations

from collections.abc import Iterator

from sagemaker_byoc.region.services.s3.store.s3_errors import S3Error

_LONGEST_LINE = 8 << 10


class ChunkedDecoder:
    """Fed with pieces of any size; gives the payload."""

    def __init__(self) -> None:
        self.trailers: dict[str, str] = {}
        self.ended = False
        self._line = bytearray()
        self._left = 0
        self._after_chunk = False
        self._in_trailers = False

    def feed(self, data: bytes) -> Iterator[memoryview]:
        """Raises S3Error InvalidChunkSizeError, IncompleteBody for what is no such body."""
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
        """S3 takes a last chunk without the empty line that should be behind it."""
        if not self._in_trailers:
            raise S3Error("IncompleteBody", "The request body terminated unexpectedly")
        if self._line:
            self._read(self._line.decode("latin-1").strip())


def _malformed(what: str) -> S3Error:
    return S3Error("InvalidRequest", f"The body is not aws-chunked: {what}")
