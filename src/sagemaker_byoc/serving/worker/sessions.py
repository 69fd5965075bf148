"""The sessions of this worker and what they hold between one request and the next."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from sagemaker_byoc.contract import http
from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.error_replies import SessionLost

if TYPE_CHECKING:
    from sagemaker_byoc.serving.worker.jobs import Job

REQUEST_TYPE_SIZE = 200


class Session:
    """A session. A handler keeps what it likes in `data`, can read the rest, and can `close` it."""

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
        """Time of expiry, on the clock of time.monotonic."""
        return self._expires

    @property
    def is_new(self) -> bool:
        return self._is_new

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        """Close the session with this reply; the client is informed."""
        self._is_closed = True

    def settle(self) -> None:
        """Count the session among the open ones from now on."""
        self._is_new = False


class SessionStore:
    """Open sessions, in the order of opening and so of expiry."""

    def __init__(self) -> None:
        self._open: dict[str, Session] = {}

    def find(self, asked: Mapping[str, Any]) -> Session:
        """Return the session of a request; a new one is open only once `settle` has seen a good
        reply."""
        self._purge()
        name = asked["id"]
        if asked.get("is_new"):
            return Session(name, asked["expires"], is_new=True)
        if name not in self._open:
            raise SessionLost(f"Session {name} is not in this process; open a new one")
        return self._open[name]

    def settle(self, session: Session, *, is_good: bool) -> None:
        """Update the session after its request."""
        if session.is_closed:
            self._open.pop(session.id, None)
        elif session.is_new and is_good:
            self._open[session.id] = session
            session.settle()

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
    """Answer a body that only opens or closes a session, as clients of AWS's own containers send
    it.

    Return whether it was one; the handlers do not see it.
    """
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
