"""Sessions on both sides of the link, without either."""

from __future__ import annotations

import re
import time

import pytest
from tests.unit.serving.front.broker.scripted import ScriptedBroker

from sagemaker_byoc.contract import http
from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.error_replies import (
    BadInput,
    SessionLost,
    Unavailable,
    UnknownSession,
)
from sagemaker_byoc.serving.front.broker.sessions import HEADER, Sessions
from sagemaker_byoc.serving.front.broker.tickets import End
from sagemaker_byoc.serving.front.http.replies import Answer
from sagemaker_byoc.serving.worker.sessions import SessionStore

NEW = http.NEW_SESSION.value
OPENED = http.NEW_SESSION_ID.value.encode()
CLOSED = http.CLOSED_SESSION_ID.value.encode()


class Hotel:
    """A scripted with sessions; `visit` is one request that gets its answer."""

    def __init__(self, slots=2, most=4, seconds=100):
        self.scripted = ScriptedBroker(slots=slots, queue=10)
        self.sessions = Sessions(
            self.scripted.broker, most=most, seconds=seconds, clock=lambda: self.scripted.now
        )

    def send(self, name, label):
        meta = {"name": label, "headers": {HEADER: name}, "stream_deadline": 0}
        slot = self.sessions.pin(meta)

        def done(_ticket, outcome):
            self.scripted.ends[label] = outcome

        deadline = self.scripted.now + 10
        return self.scripted.broker.submit(meta, Body(), deadline, done, slot), slot

    def visit(self, name, *, status=200, **meta):
        """The slot, and the response's headers."""
        ticket, slot = self.send(name, "visit")
        lane = self.scripted.lanes[slot]
        self.scripted.answer(lane, ticket.id, meta, Body())
        answer = Answer(status, [])
        self.sessions.finish(ticket, self.scripted.ends["visit"], answer)
        return slot, dict(answer.headers)

    def open(self):
        slot, headers = self.visit(NEW)
        return slot, headers[OPENED].decode().partition(";")[0]


@pytest.fixture
def hotel():
    return Hotel()


def test_open_and_return(hotel):
    """The header is as the platform's pattern has it; later requests go to the same worker."""
    slot, headers = hotel.visit(NEW)
    text = headers[OPENED].decode()
    assert re.fullmatch(
        r"[a-zA-Z0-9](-*[a-zA-Z0-9])*;\sExpires=\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", text
    )
    name = text.partition(";")[0]
    for _ in range(3):
        assert hotel.visit(name) == (slot, {})


def test_spread(hotel):
    """New ones go where there are fewest."""
    assert sorted(hotel.open()[0] for _ in range(4)) == [0, 0, 1, 1]


def test_waits_for_its_own(hotel):
    """While its worker is busy a session waits, though another worker is idle; others do not."""
    slot, name = hotel.open()
    lane = hotel.scripted.lanes[slot]
    first, _ = hotel.send(name, "first")
    hotel.send(name, "second")
    other = hotel.scripted.lanes[1 - slot]
    hotel.scripted.ask("free")
    assert hotel.scripted.names(other) == ["free"]
    assert "second" not in hotel.scripted.names(lane)
    hotel.scripted.answer(lane, first.id, {}, Body())
    assert hotel.scripted.names(lane)[-1] == "second"


def test_order():
    """On one worker sessions and others take turns as they came."""
    hotel = Hotel(slots=1)
    _, name = hotel.open()
    for label in "abcd":
        hotel.scripted.now += 1
        if label == "c":
            hotel.send(name, label)
        else:
            hotel.scripted.ask(label)
    for _ in range(4):
        hotel.scripted.reply()
    assert hotel.scripted.names()[-4:] == ["a", "b", "c", "d"]


def test_deadline_of_waiting(hotel):
    """One that waits for its worker too long ends as others do, and never reaches it."""
    slot, name = hotel.open()
    first, _ = hotel.send(name, "first")
    hotel.scripted.now += 5
    hotel.send(name, "second")
    hotel.scripted.pass_time(10)
    assert hotel.scripted.ends["second"].end is End.EXPIRED
    lane = hotel.scripted.lanes[slot]
    hotel.scripted.answer(lane, first.id, {}, Body())
    assert "second" not in hotel.scripted.names(lane)


def test_close(hotel):
    """The worker says that it is closed; then the id is unknown."""
    _, name = hotel.open()
    _, headers = hotel.visit(name, session_closed=True)
    assert headers == {CLOSED: name.encode()}
    with pytest.raises(UnknownSession):
        hotel.visit(name)


def test_failed_open(hotel):
    """A session whose first request fails is none."""
    assert hotel.visit(NEW, status=500)[1] == {}
    assert len(hotel.sessions) == 0


def test_expiry(hotel):
    """By the time that was announced."""
    _, name = hotel.open()
    hotel.scripted.now += 99
    hotel.visit(name)
    hotel.scripted.now += 1
    with pytest.raises(UnknownSession):
        hotel.visit(name)
    assert len(hotel.sessions) == 0


def test_bound(hotel):
    """No more than may be open; one that ends makes room."""
    names = [hotel.open()[1] for _ in range(4)]
    with pytest.raises(Unavailable):
        hotel.open()
    hotel.visit(names[0], session_closed=True)
    hotel.open()


@pytest.mark.parametrize("name", ["", "-a", "a b", "a" * 257, "a\u00e9"])
def test_no_id(hotel, name):
    """What is not an id gets an error."""
    with pytest.raises(BadInput, match="not a session id"):
        hotel.visit(name)


def test_worker_ends(hotel):
    """Its sessions are lost, whether they run, wait or come later; the others' continue."""
    slot, name = hotel.open()
    _, other = hotel.open()
    hotel.send(name, "running")
    hotel.send(name, "waiting")
    hotel.scripted.broker.lose(hotel.scripted.lanes[slot])
    assert [hotel.scripted.ends[key].end for key in ("running", "waiting")] == [End.LOST, End.LOST]
    with pytest.raises(SessionLost):
        hotel.visit(name)
    hotel.visit(other)
    lane = hotel.scripted.arrive(slot)
    hotel.scripted.lanes[slot] = lane
    hotel.sessions.adopt(slot, [])
    with pytest.raises(UnknownSession):
        hotel.visit(name)


def test_front_restarts(hotel):
    """A new table learns from the workers what they hold; before that nothing is denied."""
    fresh = Hotel(slots=1)
    fresh.scripted.broker.lose(fresh.scripted.lanes[0])
    with pytest.raises(Unavailable):
        fresh.visit("abc")
    fresh.scripted.lanes[0] = fresh.scripted.arrive()
    fresh.scripted.broker.on_sessions(0, [["abc", fresh.scripted.now + 10]])
    assert fresh.visit("abc")[0] == 0


def test_a_worker_that_cannot_load_holds_no_session(hotel):
    """So an id that the others do not know is unknown, and not one to try again later."""
    broker, lane = hotel.scripted.broker, hotel.scripted.lanes[1]
    broker.lose(lane)
    broker.join(lane)
    broker.fail(lane, "no memory", 507)
    with pytest.raises(UnknownSession):
        hotel.visit("abc")


def test_store():
    """The worker keeps a session from its first good reply until it is closed or expired."""
    store = SessionStore()
    later = time.monotonic() + 100
    failed = store.find({"id": "a", "expires": later, "is_new": True})
    store.settle(failed, is_good=False)
    with pytest.raises(SessionLost):
        store.find({"id": "a"})
    session = store.find({"id": "b", "expires": later, "is_new": True})
    session.data["x"] = 1
    store.settle(session, is_good=True)
    assert store.find({"id": "b"}).data == {"x": 1}
    assert store.held() == [("b", later)]
    session.close()
    store.settle(session, is_good=True)
    old = store.find({"id": "c", "expires": time.monotonic() - 1, "is_new": True})
    store.settle(old, is_good=True)
    assert store.held() == []
