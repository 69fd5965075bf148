"""Turns of a worker, with a front and a pipeline that the test plays."""

from __future__ import annotations

import os
import socket
import threading
from types import SimpleNamespace

import pytest

from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.link import (
    ClosedError,
    Ends,
    Frame,
    Kind,
    Link,
    LinkError,
    begun_of,
    connected_by,
)
from sagemaker_byoc.serving.worker.code import guard
from sagemaker_byoc.serving.worker.turns import Turn


class Model:
    """A pipeline whose requests wait where the test says so; `ran` are those that it began."""

    batch = 1
    handlers = SimpleNamespace(get=lambda _: None)

    def __init__(self):
        self.gates = {}
        self.ran = []

    def answer(self, frames, _is_cancelled):
        for frame in frames:
            self.ran.append(frame.id)
            assert self.gates.setdefault(frame.id, _open()).wait(20)
        yield [Frame(Kind.REPLY, frame.id, {}, Body(b"ok")) for frame in frames]


def _open():
    event = threading.Event()
    event.set()
    return event


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def front(model):
    """The front's ends of a worker whose turns run on a thread of the test."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"\0byoc-test-{os.urandom(8).hex()}")
    listener.listen()
    ends = Ends.connected(listener.getsockname().decode(), {"slot": 0})
    connection, _ = listener.accept()
    connection.settimeout(20)
    link = Link(connection)
    hello, inbox, begun = link.receive()
    turn = Turn(ends, model)

    def run():
        while turn.lost is None:
            assert guard.stage(turn.take) is None

    thread = threading.Thread(target=run)
    thread.start()
    outlet = connected_by(hello.body)
    taken = connected_by(inbox.body)
    yield SimpleNamespace(link=link, outlet=outlet, inbox=taken, begun=begun.body, turn=turn)
    for gate in model.gates.values():
        gate.set()
    for end in (taken, outlet, link):
        end.close()
    thread.join(20)
    assert not thread.is_alive()
    assert isinstance(turn.lost, ClosedError)
    ends.close()
    listener.close()


def requests(*idents):
    return [Frame(Kind.REQUEST, ident, {"request_id": "r"}, Body()) for ident in idents]


def ids(frames):
    return [frame.id for frame in frames]


def test_replies_of_a_packet_leave_together(front, model):
    """One packet in, one packet out, in order, each request run by itself."""
    gate = model.gates[1] = threading.Event()
    front.outlet.send(*requests(1))
    front.outlet.send(*requests(2, 3, 4))
    gate.set()
    assert ids(front.link.receive()) == [1]
    received = ids(front.link.receive())
    while len(received) < 3:  # on a busy machine the first may have waited its millisecond
        received += ids(front.link.receive())
    assert (received, model.ran) == ([2, 3, 4], [1, 2, 3, 4])
    assert begun_of(front.begun) == 4


def test_long_request_holds_up_nobody(front, model):
    """The replies before it are sent and the requests behind it given back, while it runs."""
    gate = model.gates[2] = threading.Event()
    front.outlet.send(*requests(1, 2, 3, 4))
    (first,) = front.link.receive()
    (back,) = front.link.receive()
    assert (first.id, back.kind, back.meta) == (1, Kind.RETURN, {"ids": [3, 4]})
    assert begun_of(front.begun) == 2
    gate.set()
    assert ids(front.link.receive()) == [2]
    front.outlet.send(*requests(3))
    assert ids(front.link.receive()) == [3]
    assert model.ran == [1, 2, 3]


def test_stream_behind_a_reply(front, model):
    """A packet that begins with a reply holds nothing but replies."""
    whole = model.answer

    def answer(frames, is_cancelled):
        if frames[0].id == 2:
            yield [Frame(Kind.PART, 2, {}, Body(b"piece"))]
        yield from whole(frames, is_cancelled)
        if frames[0].id == 3:
            yield [Frame(Kind.CAPTURED, 3, {}, Body(b"seen"))]

    model.answer = answer
    front.outlet.send(*requests(1, 2, 3, 4))
    seen = []
    while len(seen) < 4:  # what is behind a stream goes back before its first piece
        packet = front.link.receive()
        assert len({frame.kind for frame in packet}) == 1
        seen += [(frame.kind, frame.id, frame.meta) for frame in packet]
    assert sorted(seen[:2], key=str) == sorted(
        [(Kind.REPLY, 1, {}), (Kind.RETURN, 0, {"ids": [3, 4]})], key=str
    )
    assert [(kind, ident) for kind, ident, _ in seen[2:]] == [(Kind.PART, 2), (Kind.REPLY, 2)]
    front.outlet.send(*requests(3, 4))
    kinds = []
    while len(kinds) < 3:
        packet = front.link.receive()
        assert len({frame.kind for frame in packet}) == 1
        kinds += [(frame.kind, frame.id or frame.meta["ids"]) for frame in packet]
    assert (Kind.REPLY, 3) in kinds
    assert kinds.index((Kind.CAPTURED, 3)) > kinds.index((Kind.REPLY, 3))


def test_packet_can_be_taken_back_until_it_is_received(front, model):
    """By the front, from the worker's own end; what it takes back does not run."""
    gate = model.gates[1] = threading.Event()
    front.outlet.send(*requests(1))
    while begun_of(front.begun) != 1:
        pass
    front.outlet.send(*requests(2))
    assert ids(front.inbox.receive(wait=False)) == [2]
    with pytest.raises(BlockingIOError):
        front.inbox.receive(wait=False)
    gate.set()
    assert ids(front.link.receive()) == [1]
    front.outlet.send(*requests(5))
    assert ids(front.link.receive()) == [5]
    assert model.ran == [1, 5]


def test_failure_outside_of_a_handler(front, model):
    """The request that ran fails, those behind it go back, those before it have their replies."""

    def answer(frames, is_cancelled):
        if frames[0].id == 2:
            raise ValueError("left behind by a handler")
        return Model.answer(model, frames, is_cancelled)

    model.answer = answer
    failure = []
    turn = front.turn
    take = turn.take

    def noted():
        found = guard.stage(take)
        if found is not None:
            failure.append(found)
            turn.fail(found)

    turn.take = noted
    front.outlet.send(*requests(7))  # the turn that has begun already takes this one
    assert ids(front.link.receive()) == [7]
    front.outlet.send(*requests(1, 2, 3))
    found = {}
    while len(found) < 3:
        for frame in front.link.receive():
            found[frame.id or "back"] = (frame.kind, frame.meta)
    assert found[1] == (Kind.REPLY, {})
    assert found["back"] == (Kind.RETURN, {"ids": [3]})
    assert found[2][1]["error"]["status"] == 500
    assert len(failure) == 1


def test_ends_that_are_no_sockets():
    """A worker whose greeting brings something else has broken the protocol."""
    ours, theirs = socket.socketpair()
    theirs.close()
    for descriptor in (os.open(os.devnull, os.O_RDONLY), ours.detach()):
        with pytest.raises(LinkError):
            connected_by(Body(descriptor=descriptor))
    assert begun_of(Body(descriptor=os.open(os.devnull, os.O_RDONLY))) == 0
