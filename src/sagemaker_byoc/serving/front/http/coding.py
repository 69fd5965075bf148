"""Decoding a request's body as its Content-Encoding says, piece by piece and within a limit."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

from sagemaker_byoc.serving.errors import BadInput, PayloadTooLarge, UnsupportedCoding

ACCEPTED = "gzip, deflate, identity"
"""The codings that the Accept-Encoding header of a refusal lists."""
CODINGS = 3
"""Codings that may be applied to one body."""
PIECE = 256 * 1024
"""Bytes that one step gives; the event loop has its turn between two."""
MEMBERS = 10_000
"""Parts of one gzip body: empty ones cost time and are no bytes. bgzip makes one for 64 KB."""
GZIP, ZLIB, RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
_WINDOWS = {"gzip": GZIP, "x-gzip": GZIP, "deflate": ZLIB}


def names_of(header: str) -> list[str]:
    """Return the codings of a Content-Encoding without those that change nothing."""
    names = (name.strip().lower() for name in header.split(","))
    return [name for name in names if name not in {"", "identity"}]


class Decoder:
    """One coding."""

    def __init__(self, name: str, limit: int | None) -> None:
        self._name = name
        self._window = _WINDOWS[name]
        self._limit = limit
        self._size = 0
        self._inflate = zlib.decompressobj(self._window)
        self._is_new = True
        self._members = 1

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` decodes to, at most PIECE bytes at a time; also empty pieces."""
        while data:
            if self._inflate.eof and not self._next_member(data):
                return
            piece = self._step(data)
            self._is_new = False
            self._size += len(piece)
            if self._limit is not None and self._size > self._limit:
                raise PayloadTooLarge(
                    f"The body has {self._size} bytes or more once its {self._name} is decoded; "
                    f"the limit is {self._limit} (SAGEMAKER_MAX_PAYLOAD_IN_MB)"
                )
            data = self._inflate.unused_data or self._inflate.unconsumed_tail
            yield piece

    def _step(self, data: bytes) -> bytes:
        try:
            return self._inflate.decompress(data, PIECE)
        except zlib.error as error:
            if not (self._is_new and self._window == ZLIB):
                raise BadInput(f"The body is not valid {self._name}: {error}") from None
        # Clients that take "deflate" to mean the format without zlib's header are old but known.
        self._window = RAW
        self._inflate = zlib.decompressobj(RAW)
        self._is_new = False
        return self._step(data)

    def _next_member(self, data: bytes) -> bool:
        """Begin with the next member of a gzip file; return False if only padding follows."""
        if not data.strip(b"\0"):
            return False
        if self._window != GZIP:
            raise BadInput(f"Bytes follow the end of the body's {self._name}")
        self._members += 1
        if self._members > MEMBERS:
            raise BadInput(f"The body's {self._name} has more than {MEMBERS} members")
        self._inflate = zlib.decompressobj(GZIP)
        return True

    def end(self) -> None:
        """Raise BadInput if the last member is not complete."""
        if not self._inflate.eof:
            raise BadInput(f"The body's {self._name} ends before its last byte")


class Decoders:
    """All codings of one body, the last applied first."""

    def __init__(self, names: Sequence[str], limit: int | None) -> None:
        unknown = [name for name in names if name not in _WINDOWS]
        if unknown:
            raise UnsupportedCoding(
                f"Content-Encoding {unknown[0][:50]!r} is not known here; send {ACCEPTED}"
            )
        if len(names) > CODINGS:
            raise UnsupportedCoding(f"The body has {len(names)} codings; {CODINGS} are the limit")
        self._decoders = [Decoder(name, limit) for name in reversed(names)]

    def feed(self, data: bytes) -> Iterator[bytes]:
        return self._feed(self._decoders, data)

    def _feed(self, decoders: Sequence[Decoder], data: bytes) -> Iterator[bytes]:
        first, *rest = decoders
        for piece in first.feed(data):
            if rest:
                yield from self._feed(rest, piece)
            else:
                yield piece

    def end(self) -> None:
        for decoder in self._decoders:
            decoder.end()
