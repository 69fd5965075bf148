"""The sessions of this worker and what they hold between one request and the next."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from sagemaker_byoc.contract.hosting import http
from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.error_replies import SessionLost

if TYPE_CHECKING:
    from sagemaker_byoc.serving.worker.jobs import Job

REQUEST_TYPE_SIZE = 200


class Session:
    """A handler keeps in `data` what it likes; the rest it can read, and `close`."""

    __slots__ = ("_expires", "_id", "_is_closed", "_is_new", "data")

    def __init__(self, name: str, expires: float, *, is_new: bool = False) -> None:
        self.data: dict[Any, Any] = {}
        self._id = name
        self._expires = expires
        self._is_new = is_new
        self._is_closed = False

    @property
    def id(self) -> str:
        return self._id

    @property
    def expires(self) -> float:
        """On the clock of time.monotonic."""
        return self._expires

    @property
    def is_new(self) -> bool:
        return self._is_new

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        """With this reply; the client learns it."""
        self._is_closed = True

    def settle(self) -> None:
        """From now on it is one of those that are open."""
        self._is_new = False


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
            session.settle()
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


def is_only_about_session(job: Job, session: Session) -> bool:
    """Answer a body that opens or closes and says nothing else, as clients of AWS's own containers
    send it; such a one is not for the handlers."""
    if job.frame.body.size > REQUEST_TYPE_SIZE:
        return False
    try:
        asked = orjson.loads(bytes(job.frame.body.view()[:]))
    except orjson.JSONDecodeError:
        return False
    if asked == {"requestType": "CLOSE"}:
        session.close()
    elif asked != {"requestType": http.NEW_SESSION.value} or not session.is_new:
        return False
    job.succeed(media.JSON, orjson.dumps({"sessionId": session.id}))
    return True
