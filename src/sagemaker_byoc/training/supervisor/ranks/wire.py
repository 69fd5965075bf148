"""One connection between two supervisors: messages in and out, never waiting."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable
from contextlib import suppress

from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.training.supervisor.ranks.messages import (
    LIMIT,
    Message,
    NotAMessageError,
    decode,
    encode,
)

BACKLOG_LIMIT = 64 * LIMIT
"""Unsent bytes; a peer that takes nothing is lost long before."""


class Wire:
    """`on_message` gets each message, `on_lost` the reason when the connection is gone."""

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
            self._lose(f"sent what is no message of a supervisor ({error})")

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
            self._unsent.clear()  # reading says why, and what came before that
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        self._selector.modify(self._socket, events, self._serve)

    def _lose(self, reason: str) -> None:
        if self.is_open:
            self.close()
            self._on_lost(self, reason)
