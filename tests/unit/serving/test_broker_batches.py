"""The broker: batches, clients that leave, streams."""

from __future__ import annotations

import pytest
from tests.unit.serving.house import House

from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.front.broker.tickets import HIGH, End
from sagemaker_byoc.serving.front.broker.waiting import BATCH_BYTES
from sagemaker_byoc.serving.link import LinkError


@pytest.fixture
def house():
    return House()


def test_batch_is_what_has_queued():
    """An idle worker gets a lone request at once; what comes meanwhile goes together."""
    house = House(batch=3)
    for name in "abcde":
        house.ask(name)
    house.reply()
    assert house.lanes[0].batches == [["a"], ["b", "c", "d"]]
    house.reply(ident=house.lanes[0].sent[1][0])
    assert "e" not in house.names()  # not before the whole batch has been answered
    house.reply_all()
    assert house.lanes[0].batches[-1] == ["e"]


def test_batch_is_bounded_in_bytes():
    """Large bodies do not gather without limit, and one that is too large goes alone."""
    house = House(batch=8)
    house.ask("a")
    for name, size in (("b", BATCH_BYTES + 1), ("c", BATCH_BYTES - 1), ("d", 1), ("e", 1)):
        house.ask(name, size=size)
    for _ in range(4):
        house.reply_all()
    assert house.lanes[0].batches == [["a"], ["b"], ["c", "d"], ["e"]]


def test_batch_that_fits_into_no_packet():
    """Its members go one by one; only one that does not fit by itself fails."""
    house = House(batch=8)
    house.ask("a")
    house.ask("b")
    house.ask("c")
    lane = house.lanes[0]
    accept = lane.send

    def refuse_more_than_one(tickets):
        if len(tickets) > 1:
            raise LinkError("too large")
        accept(tickets)

    lane.send = refuse_more_than_one
    house.reply_all()
    house.reply_all()
    assert house.lanes[0].batches == [["a"], ["b"], ["c"]]


def test_batch_follows_its_target():
    """Full batches within the target make room for one more; slower ones for a tenth less."""
    house = House(queue=99, batch=32, target=1.0)
    for number in range(40):
        house.ask(str(number), patience=1000)
    for seconds in (0.1, 0.1, 0.1, 3.0, 0.1):
        house.now += seconds
        house.reply_all()
    assert [len(batch) for batch in house.lanes[0].batches] == [1, 2, 3, 4, 3, 4]


def test_client_goes_while_it_waits(house):
    """Its request never reaches a worker."""
    house.ask("a")
    ticket = house.ask("b")
    house.ask("c")
    house.broker.abandon(ticket)
    house.reply()
    assert house.names() == ["a", "c"]
    assert house.ends["b"].end is End.ABANDONED


def test_client_goes_while_it_runs(house):
    """The worker is busy until it replies; nobody is told."""
    ticket = house.ask("a")
    house.broker.abandon(ticket)
    house.ask("b")
    assert house.names() == ["a"]
    house.reply()
    assert house.names() == ["a", "b"]


def test_client_of_stream_goes(house):
    """The worker is asked to stop, and counts as stuck if it does not."""
    ticket = house.ask("a")
    lane = house.lanes[0]
    house.broker.part(lane, ticket.id, {"content_type": "a/b"}, Body(b"x"))
    assert house.ends["a"].end is End.STREAM
    house.broker.abandon(ticket)
    assert lane.signals == [f"cancel {ticket.id}"]
    house.pass_time(6)
    assert "abort" in lane.signals


def test_stream_has_a_deadline_of_its_own(house):
    """Longer than a whole reply may take; after it the worker is asked to stop."""
    ticket = house.ask("a", patience=10)
    lane = house.lanes[0]
    house.broker.part(lane, ticket.id, {}, Body(b"x"))
    house.pass_time(50)
    assert not ticket.is_over
    house.pass_time(51)
    assert ticket.is_over
    assert lane.signals == [f"cancel {ticket.id}"]


def test_worker_is_not_stuck_because_its_client_is(house):
    """A stream that a client does not take ends with its time: its worker may send on and stop."""
    ticket = house.ask("a", patience=10)
    lane = house.lanes[0]
    for _ in range(2):
        house.broker.part(lane, ticket.id, {}, Body(bytes(HIGH)))
    assert lane.signals == ["hold"]
    house.pass_time(101)
    assert lane.signals == ["hold", "resume", f"cancel {ticket.id}"]
