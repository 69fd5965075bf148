"""The broker: batches, clients that leave, streams."""

from __future__ import annotations

import pytest
from tests.unit.serving.front.broker.scripted import ScriptedBroker

from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.front.broker.tickets import HIGH, End
from sagemaker_byoc.serving.front.broker.waiting import BATCH_BYTES
from sagemaker_byoc.serving.link import LinkError


@pytest.fixture
def scripted():
    return ScriptedBroker()


def test_batch_is_what_has_queued():
    """An idle worker gets a lone request at once; what comes meanwhile goes together."""
    scripted = ScriptedBroker(batch=3)
    for name in "abcde":
        scripted.ask(name)
    scripted.reply()
    assert scripted.lanes[0].batches == [["a"], ["b", "c", "d"]]
    scripted.reply(ident=scripted.lanes[0].sent[1][0])
    assert "e" not in scripted.names()  # not before the whole batch has been answered
    scripted.reply_all()
    assert scripted.lanes[0].batches[-1] == ["e"]


def test_batch_is_bounded_in_bytes():
    """Large bodies do not gather without limit, and one that is too large goes alone."""
    scripted = ScriptedBroker(batch=8)
    scripted.ask("a")
    for name, size in (("b", BATCH_BYTES + 1), ("c", BATCH_BYTES - 1), ("d", 1), ("e", 1)):
        scripted.ask(name, size=size)
    for _ in range(4):
        scripted.reply_all()
    assert scripted.lanes[0].batches == [["a"], ["b"], ["c", "d"], ["e"]]


def test_batch_that_fits_into_no_packet():
    """Its members go one by one; only one that does not fit by itself fails."""
    scripted = ScriptedBroker(batch=8)
    scripted.ask("a")
    scripted.ask("b")
    scripted.ask("c")
    lane = scripted.lanes[0]
    accept = lane.send

    def refuse_more_than_one(tickets):
        if len(tickets) > 1:
            raise LinkError("too large")
        accept(tickets)

    lane.send = refuse_more_than_one
    scripted.reply_all()
    scripted.reply_all()
    assert scripted.lanes[0].batches == [["a"], ["b"], ["c"]]


def test_batch_follows_its_target():
    """Full batches within the target make room for one more; slower ones for a tenth less."""
    scripted = ScriptedBroker(queue=99, batch=32, target=1.0)
    for number in range(40):
        scripted.ask(str(number), timeout=1000)
    for seconds in (0.1, 0.1, 0.1, 3.0, 0.1):
        scripted.now += seconds
        scripted.reply_all()
    assert [len(batch) for batch in scripted.lanes[0].batches] == [1, 2, 3, 4, 3, 4]


def test_client_goes_while_it_waits(scripted):
    """Its request never reaches a worker."""
    scripted.ask("a")
    ticket = scripted.ask("b")
    scripted.ask("c")
    scripted.broker.abandon(ticket)
    scripted.reply()
    assert scripted.names() == ["a", "c"]
    assert scripted.ends["b"].end is End.ABANDONED


def test_client_goes_while_it_runs(scripted):
    """The worker is busy until it replies; its reply is dropped."""
    ticket = scripted.ask("a")
    scripted.broker.abandon(ticket)
    scripted.ask("b")
    assert scripted.names() == ["a"]
    scripted.reply()
    assert scripted.names() == ["a", "b"]


def test_client_of_stream_goes(scripted):
    """The worker is asked to stop, and counts as stuck if it does not."""
    ticket = scripted.ask("a")
    lane = scripted.lanes[0]
    scripted.broker.part(lane, ticket.id, {"content_type": "a/b"}, Body(b"x"))
    assert scripted.ends["a"].end is End.STREAM
    scripted.broker.abandon(ticket)
    assert lane.signals == [f"cancel {ticket.id}"]
    scripted.pass_time(6)
    assert "abort" in lane.signals


def test_stream_has_a_deadline_of_its_own(scripted):
    """Longer than a whole reply may take; after it the worker is asked to stop."""
    ticket = scripted.ask("a", timeout=10)
    lane = scripted.lanes[0]
    scripted.broker.part(lane, ticket.id, {}, Body(b"x"))
    scripted.pass_time(50)
    assert not ticket.is_over
    scripted.pass_time(51)
    assert ticket.is_over
    assert lane.signals == [f"cancel {ticket.id}"]


def test_worker_is_not_stuck_because_its_client_is(scripted):
    """A stream that a client does not take ends with its time: its worker may send on and stop."""
    ticket = scripted.ask("a", timeout=10)
    lane = scripted.lanes[0]
    for _ in range(2):
        scripted.broker.part(lane, ticket.id, {}, Body(bytes(HIGH)))
    assert lane.signals == ["hold"]
    scripted.pass_time(101)
    assert lane.signals == ["hold", "resume", f"cancel {ticket.id}"]
