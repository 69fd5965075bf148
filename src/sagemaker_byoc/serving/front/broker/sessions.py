"""Stateful sessions: which are open, which worker holds each, and until when.

The client asks with `X-Amzn-SageMaker-Session-Id: NEW_SESSION` and gets an id. SageMaker then
routes all requests with that id to this container, and this table routes them to one worker. A
session's state is in that worker and ends with it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from sagemaker_byoc.contract import http
from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.error_replies import (
    BadInput,
    SessionLost,
    Unavailable,
    UnknownSession,
)
from sagemaker_byoc.serving.front.broker.broker import Broker
from sagemaker_byoc.serving.front.broker.tickets import End, Outcome, Ticket
from sagemaker_byoc.serving.front.http.replies import Answer

HEADER = http.SESSION_ID.value.lower()
ID = re.compile(http.SESSION_PATTERN.value)


BODY = 256
"""Largest body, in bytes, that can be a request to open a session."""


def _asked(data: bytes) -> object:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


@dataclass(frozen=True, slots=True)
class Place:
    slot: int
    expires: float


class Sessions:
    """At most `most` sessions, each for `seconds` from its opening; one event loop owns them."""

    def __init__(
        self,
        broker: Broker,
        *,
        most: int,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._broker = broker
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._places: dict[str, Place] = {}
        """Open sessions, in the order of opening and so of expiry."""
        broker.on_sessions = self.adopt

    def __len__(self) -> int:
        self._purge()
        return len(self._places)

    def pin(self, meta: dict[str, Any]) -> int | None:
        """Return the slot that must serve the request, None for any, and describe the session in
        `meta`.

        Raise a Refusal for a session that is not open.
        """
        name = meta.get("headers", {}).get(HEADER)
        if name is None:
            return None
        self._purge()
        if name == http.NEW_SESSION.value:
            return self._open(meta)
        if len(name) > http.SESSION_LENGTH.value or not ID.fullmatch(name):
            raise BadInput(f"{http.SESSION_ID.value} {name[:50]!r} is not a session id")
        place = self._places.get(name)
        if place is None and self._broker.awaits_worker:
            raise Unavailable("A model worker is restarting; it may hold the session")
        if place is None:
            raise UnknownSession(
                f"No session {name} is open: it was closed, has expired, or its process has ended"
            )
        if place.slot in self._broker.away():
            del self._places[name]
            raise SessionLost(f"Session {name} has ended with the model's process that held it")
        meta["session"] = {"id": name}
        return place.slot

    def pin_new(self, meta: dict[str, Any], body: Body) -> int | None:
        """Return the slot of a new session if the body only asks to open one, as clients of AWS's
        own containers do without the header; None for any other body."""
        if body.size > BODY or HEADER in meta.get("headers", {}):
            return None
        asked = _asked(body.data) if b"requestType" in body.data else None
        if asked == {"requestType": "CLOSE"}:
            raise BadInput(f"{http.SESSION_ID.value} must name the session to close")
        if asked != {"requestType": http.NEW_SESSION.value}:
            return None
        self._purge()
        return self._open(meta)

    def _open(self, meta: dict[str, Any]) -> int:
        slot = self._choose()
        expires = self._clock() + self._seconds
        meta["session"] = {"id": os.urandom(16).hex(), "expires": expires, "is_new": True}
        return slot

    def finish(self, ticket: Ticket, outcome: Outcome, answer: Answer) -> None:
        """Open or close the session as the worker has answered, and set the client's headers."""
        session = ticket.meta.get("session")
        if session is None or outcome.end not in {End.REPLIED, End.STREAM}:
            return
        name, is_closed = session["id"], bool(outcome.meta.get("session_closed"))
        if is_closed:
            self._places.pop(name, None)
            answer.headers.append((http.CLOSED_SESSION_ID.value.encode(), name.encode()))
        elif "is_new" in session and answer.status < 400 and ticket.slot is not None:
            self._places[name] = Place(ticket.slot, session["expires"])
            left = session["expires"] - self._clock()
            until = (datetime.now(UTC) + timedelta(seconds=left)).strftime("%Y-%m-%dT%H:%M:%SZ")
            value = f"{name}; Expires={until}".encode()
            answer.headers.append((http.NEW_SESSION_ID.value.encode(), value))

    def adopt(self, slot: int, held: Iterable[tuple[str, float]]) -> None:
        """Replace the sessions of a slot by those its worker holds: none if the worker is new, all
        of them if only this process is new."""
        places = {name: place for name, place in self._places.items() if place.slot != slot}
        places.update({name: Place(slot, expires) for name, expires in held})
        self._places = dict(sorted(places.items(), key=lambda item: item[1].expires))

    def _choose(self) -> int:
        """Return the slot with the fewest sessions."""
        if len(self._places) >= self._most:
            raise Unavailable(f"{len(self._places)} sessions are already open")
        slots = self._broker.present()
        if not slots:
            raise Unavailable("No model worker is ready for a session")
        counts = dict.fromkeys(slots, 0)
        for place in self._places.values():
            if place.slot in counts:
                counts[place.slot] += 1
        return min(counts, key=counts.__getitem__)

    def _purge(self) -> None:
        now = self._clock()
        while self._places:
            name = next(iter(self._places))
            if self._places[name].expires > now:
                return
            del self._places[name]
