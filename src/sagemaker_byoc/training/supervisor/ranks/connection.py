"""A connection between the supervisors of two hosts, which never waits.

A message is one JSON object per line, of known shape; anything else is refused. Nothing that is
received is ever executed or used as a path.
"""

from __future__ import annotations

import json
import selectors
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

from sagemaker_byoc.contract.files import Json

LIMIT = 16 * 2**10
"""Most bytes of a line. The longest has a failure text of 1 KiB with every byte escaped."""
BACKLOG_LIMIT = 64 * LIMIT
"""Most unsent bytes; a peer that receives nothing is lost long before."""

Message: TypeAlias = dict[str, Any]
"""Checked by `decode`: each field has one of the types of SHAPES, and a list holds integers."""

NONE = type(None)
NUMBER = (int, float)
SHAPES: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    # to the first host
    "hello": {"run": (str,), "host": (str,), "processes": (int,)},
    "beat": {"quiet": NUMBER, "stalled": (*NUMBER, NONE), "over": (bool,)},
    "failed": {
        "rank": (int, NONE),
        "code": (int,),
        "text": (str,),
        "secondary": (bool,),
        "age": NUMBER,
    },
    # from the first host
    "start": {"processes": (list,)},
    "end": {},
    "abort": {},
    "verdict": {"host": (str,), "rank": (int, NONE), "code": (int,), "text": (str,)},
    "bye": {},
    # both ways
    "alive": {},
    "stopped": {"host": (str,), "signal": (int,)},
}


class NotAMessageError(Exception):
    """Received data that no supervisor of this job would send."""


def encode(kind: str, **fields: Json) -> bytes:
    return json.dumps({"kind": kind, **fields}).encode() + b"\n"


def decode(line: bytes) -> Message:
    """Return the message in a line; raise NotAMessageError if it is not one."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise NotAMessageError("not JSON") from error
    kind = message.get("kind") if isinstance(message, dict) else None
    shape = SHAPES.get(kind) if isinstance(kind, str) else None
    if shape is None or message.keys() != {"kind", *shape}:
        raise NotAMessageError(f"kind {kind!r:.40}")
    for name, types in shape.items():
        value = message[name]
        members = value if isinstance(value, list) else ()
        is_huge = type(value) is int and value.bit_length() > 63
        if type(value) not in types or is_huge or any(type(each) is not int for each in members):
            raise NotAMessageError(f"{kind}: {name}")
    known: Message = message
    return known


class Wire:
    """A connection. `on_message` gets each message, `on_lost` the reason for its loss."""

    def __init__(
        self,
        sock: socket.socket,
        selector: selectors.BaseSelector,
        *,
        on_message: Callable[[Wire, Message], None],
        on_lost: Callable[[Wire, str], None],
    ) -> None:
        self._socket = sock
        self._selector = selector
        self._on_message = on_message
        self._on_lost = on_lost
        self._received = bytearray()
        self._unsent = bytearray()
        self.is_open = True
        sock.settimeout(0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(sock, selectors.EVENT_READ, self._serve)

    def send(self, kind: str, **fields: Json) -> None:
        if self.is_open and len(self._unsent) < BACKLOG_LIMIT:
            self._unsent += encode(kind, **fields)
            self._flush()

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            with suppress(KeyError, ValueError):
                self._selector.unregister(self._socket)
            self._socket.close()

    def _serve(self) -> None:
        if self._unsent:
            self._flush()
        try:
            data = self._socket.recv(LIMIT)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error.strerror or "broken")
            return
        if not data:
            self._lose("closed")
            return
        self._received += data
        try:
            self._dispatch()
        except NotAMessageError as error:
            self._lose(f"sent something that is not a message of a supervisor ({error})")

    def _dispatch(self) -> None:
        while self.is_open and (end := self._received.find(b"\n")) >= 0:
            line = bytes(self._received[:end])
            del self._received[: end + 1]
            if len(line) > LIMIT:
                raise NotAMessageError("too long")
            self._on_message(self, decode(line))
        if len(self._received) > LIMIT:
            raise NotAMessageError("too long")

    def _flush(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()  # the next read gets the reason, and what came before it
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        self._selector.modify(self._socket, events, self._serve)

    def _lose(self, reason: str) -> None:
        if self.is_open:
            self.close()
            self._on_lost(self, reason)
