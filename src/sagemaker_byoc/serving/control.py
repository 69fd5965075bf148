"""The channel between the front and the supervisor of a multi-model endpoint.

The front asks for a model's process and for its end; the supervisor says what has become of it.
One JSON object a packet over a socket pair. Standard library only.
"""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeAlias

Message: TypeAlias = "Mapping[str, Any]"

START, STOP, LIST = "start", "stop", "list"
"""From the front; the first two with a model's `name`, START with its `url` too."""
KNOWN, LISTED, ENDED = "known", "listed", "ended"
"""From the supervisor: one KNOWN a model and then LISTED, in answer to LIST. ENDED when a model's
process is gone, with all that it started, and no other will follow."""
PACKET = 64 * 1024


class Channel:
    """One end; never waits. What the peer has no room for yet stays here until `flush`."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.setblocking(False)  # noqa: FBT003 - positional only
        self._unsent: deque[bytes] = deque()

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def is_behind(self) -> bool:
        return bool(self._unsent)

    def send(self, what: str, **details: object) -> None:
        self._unsent.append(json.dumps({"what": what, **details}).encode())
        self.flush()

    def flush(self) -> None:
        with suppress(OSError):  # no room, or nobody there for now
            while self._unsent:
                self._socket.send(self._unsent[0], socket.MSG_NOSIGNAL)
                self._unsent.popleft()

    def receive(self) -> list[Message]:
        """What has arrived."""
        found: list[Message] = []
        with suppress(OSError):
            while data := self._socket.recv(PACKET):
                found.append(json.loads(data))
        return found
