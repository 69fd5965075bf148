"""One invocation that is too large to become a line at once, and its line in pieces.

Each piece takes microseconds to make, so that the thread that makes them never keeps the event loop
waiting for long. Standard library only.
"""

from __future__ import annotations

import base64
import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from json.encoder import encode_basestring

from sagemaker_byoc.contract.hosting.capture import (
    LINE_HEAD,
    ContentTypes,
    Encoding,
    Mode,
    payload_head,
    payload_tail,
)
from sagemaker_byoc.serving.bodies import Body

PIECE = 48 * 1024
"""Bytes; a multiple of three, so that base64 of the pieces is base64 of all."""


@dataclass(slots=True)
class Side:
    """One direction."""

    mode: Mode
    content_type: str
    body: Body


@dataclass(slots=True)
class Exchange:
    """`tail` ends the line."""

    sides: list[Side]
    tail: str
    types: ContentTypes

    def pieces(self, text: frozenset[Mode]) -> Iterator[bytes]:
        """The line. Bodies of the modes in `text` as text where their type says so: NotTextError
        in the middle of it if one is not."""
        head = LINE_HEAD
        for side in self.sides:
            encoding = self.types.encoding_of(side.content_type)
            if side.mode not in text:
                encoding = Encoding.BASE64
            head += payload_head(side.mode, side.content_type) + '"'
            yield head.encode()
            yield from _text(side) if encoding is not Encoding.BASE64 else _base64(side.body)
            head = f'"{payload_tail(encoding)},'
        yield f"{head.removesuffix(',')}{self.tail}".encode()


class NotTextError(Exception):
    """A body that claims to be text and is not UTF-8; `mode` says which."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        super().__init__(mode)


def _text(side: Side) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, side.body.size, PIECE):
            is_last = start + PIECE >= side.body.size
            text = decoder.decode(side.body.piece(start, PIECE), final=is_last)
            yield encode_basestring(text)[1:-1].encode()
    except UnicodeDecodeError as error:
        raise NotTextError(side.mode) from error


def _base64(body: Body) -> Iterator[bytes]:
    for start in range(0, body.size, PIECE):
        yield base64.b64encode(body.piece(start, PIECE))
