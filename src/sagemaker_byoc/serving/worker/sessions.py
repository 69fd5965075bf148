"""What the sessions of this worker hold, between one request and the next."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sagemaker_byoc.serving.errors import SessionLost


@dataclass(slots=True)
class Session:
    """A handler keeps in `data` what it likes."""

    id: str
    expires: float
    """On the clock of time.monotonic."""
    data: dict[Any, Any] = field(default_factory=dict)
    is_new: bool = False
    is_closed: bool = False

    def close(self) -> None:
        """With this reply; the client is told."""
        self.is_closed = True


class SessionStore:
    """In the order of opening, which is that of expiring."""

    def __init__(self) -> None:
        self._open: dict[str, Session] = {}

    def find(self, asked: Mapping[str, Any]) -> Session:
        """Of a request; a new one counts only once `settle` has seen a good reply."""
        self._purge()
        name = asked["id"]
        if asked.get("is_new"):
            return Session(name, asked["expires"], is_new=True)
        if name not in self._open:
            raise SessionLost(f"Session {name} is not in this process; open a new one")
        return self._open[name]

    def settle(self, session: Session, *, is_good: bool) -> bool:
        """After the request; whether the session is closed by it."""
        if session.is_closed:
            self._open.pop(session.id, None)
        elif session.is_new and is_good:
            self._open[session.id] = session
            session.is_new = False
        return session.is_closed

    def held(self) -> list[tuple[str, float]]:
        self._purge()
        return [(session.id, session.expires) for session in self._open.values()]

    def _purge(self) -> None:
        now = time.monotonic()
        while self._open:
            first = next(iter(self._open.values()))
            if first.expires > now:
                return
            del self._open[first.id]
