"""Reading bodies to a limit."""

from __future__ import annotations

import asyncio

import pytest

from sagemaker_byoc.serving.bodies import INLINE
from sagemaker_byoc.serving.error_replies import (
    BadInput,
    PayloadTooLarge,
    SlowUpload,
    Unavailable,
)
from sagemaker_byoc.serving.front.broker.admission import Admission, Room
from sagemaker_byoc.serving.front.http import requests


class Sender:
    """A client that sends `data` in pieces."""

    def __init__(self, data, piece=10_000, end=True):
        self.pieces = [data[start : start + piece] for start in range(0, len(data), piece)]
        self.end = end
        self.taken = 0

    async def receive(self):
        if not self.pieces and not self.end:
            return {"type": "http.disconnect"}
        piece = self.pieces.pop(0) if self.pieces else b""
        self.taken += len(piece)
        more = bool(self.pieces) or not self.end
        return {"type": "http.request", "body": piece, "more_body": more}


def read(sender, *, length, limit, room=10**9, deadline=float("inf")):
    permit = Admission(requests=9, room=Room(room)).admit()
    reading = requests.read_body(
        sender.receive, length=length, limit=limit, deadline=deadline, permit=permit
    )
    return asyncio.run(reading)


@pytest.mark.parametrize("size", [0, 1, INLINE, INLINE + 1, 3 * INLINE])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_whole(size, is_chunked):
    """Small or large, the bytes are those that were sent."""
    data = bytes(i % 251 for i in range(size))
    found = read(Sender(data), length=None if is_chunked else size, limit=size)
    assert (found.size, bytes(found.view()[:])) == (size, data)
    assert (found.descriptor is not None) == (size > INLINE)


@pytest.mark.parametrize("length", [None, 101])
def test_one_too_many(length):
    """One byte over the limit is refused."""
    with pytest.raises(PayloadTooLarge):
        read(Sender(bytes(101), 10), length=length, limit=100)


def test_length_is_enough_to_refuse():
    """What is announced as too large is not read at all."""
    sender = Sender(bytes(101))
    with pytest.raises(PayloadTooLarge):
        read(sender, length=101, limit=100)
    assert sender.taken == 0


def test_drain_is_bounded(monkeypatch):
    """An endless body is not read forever."""
    monkeypatch.setattr(requests, "DRAIN_SPARE", 0)
    sender = Sender(bytes(10**6), 100)
    asyncio.run(requests.drain(sender.receive, 1000))
    assert sender.taken == 2000


def test_drain_waits_for_nobody():
    """A client that sends nothing more is not waited for."""

    async def never():
        await asyncio.Event().wait()

    asyncio.run(requests.drain(never, 1000, timeout=0.01))


def test_cut_short():
    """Fewer bytes than announced are not a body."""
    with pytest.raises(BadInput, match="3 of 9"):
        read(Sender(b"abc"), length=9, limit=None)


def test_slow_from_the_start(monkeypatch):
    """Bytes that keep arriving, but too few of them, are a slow client too."""
    now = [0.0]
    monkeypatch.setattr(requests.time, "monotonic", lambda: now[0])

    class Slow(Sender):
        async def receive(self):
            now[0] += 1.0
            return await super().receive()

    enough = Slow(bytes(100 * requests.LEAST_RATE), requests.LEAST_RATE)
    assert read(enough, length=None, limit=None).size == 100 * requests.LEAST_RATE
    slow = Slow(bytes(1000), 1)
    with pytest.raises(SlowUpload):
        read(slow, length=None, limit=None)
    assert requests.PAUSE - 2 < slow.taken < requests.PAUSE + 2


def test_announced_bytes_are_not_held():
    """Only what has arrived counts, so slow clients leave the room to others."""
    admission = Admission(requests=9, room=Room(100))
    permits = [admission.arrive() for _ in range(3)]
    for permit in permits:
        sender = Sender(b"abc", end=False)
        reading = requests.read_body(
            sender.receive, length=60, limit=None, deadline=float("inf"), permit=permit
        )
        with pytest.raises(SlowUpload):
            asyncio.run(reading)
    assert (admission.room.held, admission.room.arriving, admission.requests) == (9, 9, 0)
    for permit in permits:
        permit.release()
    assert (admission.room.held, admission.room.arriving, admission.arriving) == (0, 0, 0)


def test_no_descriptor(monkeypatch):
    """A large body that can't be kept is refused, and is not a fault of the server."""

    def fail(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("os.memfd_create", fail)
    for length in (None, 3 * INLINE):
        with pytest.raises(Unavailable, match="Too many open files"):
            read(Sender(bytes(3 * INLINE), 3 * INLINE), length=length, limit=None)
        with pytest.raises(Unavailable, match="Too many open files"):
            read(Sender(bytes(3 * INLINE)), length=length, limit=None)


@pytest.mark.parametrize("data", [b"", b"abc", bytes(2 * INLINE)])
def test_stalled(data):
    """A client that stops sending gets an error."""
    with pytest.raises(SlowUpload):
        read(Sender(data, end=False), length=10**6, limit=None)


def test_deadline():
    """An upload may take no longer than its answer could."""
    with pytest.raises(SlowUpload):
        read(Sender(bytes(100), 10), length=None, limit=None, deadline=0)


@pytest.mark.parametrize("length", [None, 200])
def test_no_room(length):
    """A chunked body too is refused as soon as it is more than there is room for."""
    admission = Admission(requests=9, room=Room(100))
    admission.admit().hold(50)
    permit = admission.admit()
    sender = Sender(bytes(200), 10)
    with pytest.raises(Unavailable):
        asyncio.run(
            requests.read_body(
                sender.receive, length=length, limit=None, deadline=float("inf"), permit=permit
            )
        )
    permit.release()
    assert (admission.requests, admission.room.held) == (1, 50)
