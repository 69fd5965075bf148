"""The broker, with lanes that only take notes and a clock that the test moves."""

from __future__ import annotations

import pytest
from tests.unit.serving.house import House, Notes

from sagemaker_byoc.serving.error_replies import Unavailable, UnknownModel
from sagemaker_byoc.serving.front.broker.admission import Admission, Room
from sagemaker_byoc.serving.front.broker.broker import Broker
from sagemaker_byoc.serving.front.broker.tickets import KILL_AFTER, End
from sagemaker_byoc.serving.link import ClosedError, LinkError


@pytest.fixture
def house():
    return House()


def test_idle_gets_it_at_once(house):
    """No request waits while a worker is idle; the next follows when it answers."""
    house.ask("a")
    house.ask("b")
    assert house.names() == ["a"]
    house.now += 2
    house.reply()
    assert house.names() == ["a", "b"]
    assert (house.ends["a"].end, house.ends["a"].ran) == (End.REPLIED, 2)
    house.reply()
    assert house.ends["b"].queued == 2


def test_admission():
    """Slots and queue count together; what is released makes room, once."""
    house = House(slots=1, queue=1)
    permits = [house.broker.admit(), house.broker.admit()]
    with pytest.raises(Unavailable):
        house.broker.admit()
    permits[0].release()
    permits[0].release()
    house.broker.admit()
    with pytest.raises(Unavailable):
        house.broker.admit()


def test_deadline_in_queue(house):
    """An expired request never reaches a worker."""
    house.ask("a", patience=100)
    house.ask("b", patience=10)
    house.pass_time(10)
    assert house.ends["b"].end is End.EXPIRED
    house.reply()
    assert house.names() == ["a"]


def test_late_reply(house):
    """A reply after the deadline frees the worker and reaches nobody."""
    house.ask("a")
    house.pass_time(11)
    assert house.ends["a"].end is End.EXPIRED
    house.ask("b")
    house.reply()
    assert house.names() == ["a", "b"]
    house.reply(ident=house.lanes[0].sent[0][0])  # a again: stale
    assert "b" not in house.ends


def test_stuck(house):
    """First its stacks, then its end; not again before the next time."""
    house.ask("a")
    house.pass_time(14)
    assert house.lanes[0].signals == []
    house.pass_time(1)
    house.pass_time(KILL_AFTER / 2)
    assert house.lanes[0].signals == ["abort"]
    house.pass_time(KILL_AFTER)
    assert house.lanes[0].signals == ["abort", "kill"]


def test_lost_worker(house):
    """Its request ends, the queue waits for its successor."""
    house.ask("a")
    house.ask("b")
    house.broker.lose(house.lanes[0])
    house.broker.lose(house.lanes[0])
    assert house.ends["a"].end is End.LOST
    assert (house.broker.health().status, "b" in house.ends) == ("restarting", False)
    house.broker.admit()
    successor = house.arrive()
    assert house.names(successor) == ["b"]
    house.reply(house.lanes[0], ident=successor.sent[0][0])  # from the dead one
    assert "b" not in house.ends


def test_unreachable_worker():
    """A request that could not be handed over goes to another worker."""
    house = House(slots=2)
    house.lanes[0].error = ClosedError("gone")
    house.ask("a")
    assert house.names(house.lanes[1]) == ["a"]


def test_unsendable(house):
    """A request that fits into no frame fails alone."""
    house.lanes[0].error = LinkError("too large")
    house.ask("a")
    assert (house.ends["a"].end, house.ends["a"].reason) == (End.UNSENDABLE, "too large")
    house.lanes[0].error = None
    house.ask("b")
    assert house.names() == ["b"]


def test_successor_replaces(house):
    """A slot's new worker takes over even where the end of the old one was not seen yet."""
    house.ask("a")
    successor = house.arrive()
    assert house.ends["a"].end is End.LOST
    house.broker.lose(house.lanes[0])
    house.ask("b")
    assert house.names(successor) == ["b"]


def test_health():
    """Ready with one worker; before that the reason, of which a failure comes first."""
    broker = Broker(slots=2, admission=Admission(requests=2, room=Room(1)), stuck_grace=1)
    assert broker.health().status == "loading"
    with pytest.raises(Unavailable, match="being loaded"):
        broker.admit()
    first, second = Notes(0), Notes(1)
    broker.join(first)
    broker.fail(first, "no weights")
    assert (broker.health().status, broker.health().reason) == ("failed", "no weights")
    broker.join(second)
    broker.ready(second)
    assert broker.health().is_ready


def test_unknown_slot(house):
    """A worker of a slot that does not exist breaks the protocol."""
    with pytest.raises(LinkError):
        house.broker.join(Notes(7))


def test_bytes_are_bounded():
    """Bodies wait in memory, so they count too; one alone may be as large as it likes."""
    house = House(queue=5)
    first, second = house.broker.admit(), house.broker.admit()
    first.hold(900)
    with pytest.raises(Unavailable, match="900 bytes"):
        second.hold(200)
    second.hold(100)
    first.release()
    second.release()
    house.broker.admit().hold(5000)


def test_arriving_bodies_hold_no_place():
    """Whole bodies are let in by the order in which they became whole, beside any number that
    still arrive; those have limits of their own."""
    house = House(queue=1)
    slow = [house.broker.arrive() for _ in range(50)]
    first, second = house.broker.admit(), house.broker.arrive()
    house.broker.enter(second)
    with pytest.raises(Unavailable, match="2 requests"):
        house.broker.enter(slow[0])
    with pytest.raises(Unavailable, match="2 requests"):
        house.broker.arrive()  # what could only wait in vain need not be sent
    first.release()
    house.broker.enter(slow[1])
    for permit in (*slow, second):
        permit.release()
        permit.release()
    assert (house.broker.admission.requests, house.broker.admission.arriving) == (0, 0)


def test_arriving_bodies_have_limits():
    """Their number, and half of the bytes; the other half stays free for whole ones."""
    admission = Admission(requests=9, room=Room(1000), arriving=3)
    one, two, _ = (admission.arrive() for _ in range(3))
    with pytest.raises(Unavailable, match="3 bodies"):
        admission.arrive()
    one.hold(400)
    two.hold(100)
    with pytest.raises(Unavailable, match="500 bytes"):
        two.hold(101)
    admission.admit().hold(500)
    with pytest.raises(Unavailable, match="1000 bytes"):
        admission.admit().hold(1)
    one.enter()
    assert (admission.room.arriving, admission.room.held) == (100, 1000)
    one.release()
    two.hold(500)


def test_replies_being_sent_hold_no_place():
    """Who reads slowly holds up nobody, and is cut off first when memory is short."""
    house = House(queue=1)
    cuts = []
    permits = []
    for number in range(5):
        permits.append(house.broker.admit())
        permits[-1].hold(500)
        permits[-1].leave(300, lambda number=number: cuts.append(number))
    assert cuts == [0, 1]  # of five times 300 bytes 1000 are left
    room = house.broker.admission.room
    assert (house.broker.admission.requests, room.held, room.leaving) == (0, 0, 900)
    house.broker.admit().leave(5000, lambda: cuts.append("large"))  # more than fits, alone
    assert cuts == [0, 1, 2, 3, 4]
    for permit in permits:
        permit.release()
    assert (room.leaving, len(room.senders)) == (5000, 1)


def test_model_unloaded_while_a_body_arrives(house):
    """It is not let in to wait for a model that never comes back."""
    permit = house.broker.arrive()
    house.broker.shut()
    with pytest.raises(UnknownModel):
        house.broker.enter(permit)


def test_short_restart_is_healthy():
    """While what comes can wait for the worker, /ping says 200; after that it says why not."""
    house = House()
    house.broker.restart_grace = 50
    house.broker.lose(house.lanes[0])
    house.pass_time(49)
    assert (house.broker.health().is_ready, house.broker.health().status) == (True, "restarting")
    house.pass_time(2)
    assert (house.broker.health().is_ready, house.broker.health().status) == (False, "restarting")
    house.arrive()
    assert house.broker.health().status == "ready"
    house.pass_time(100)
    house.broker.lose(house.broker.lanes()[0])
    assert house.broker.health().is_ready  # each restart has its own time


def test_first_load_is_not_a_restart():
    """A model that has never been ready is not healthy, however short it has been loading."""
    broker = Broker(slots=1, admission=Admission(requests=2, room=Room(1)), stuck_grace=1)
    broker.restart_grace = 50
    broker.join(Notes())
    assert not broker.health().is_ready


def test_instructions(house):
    """Before all that waits for the slot, in their own order; none is lost with others' ends."""
    house.ask("a")
    house.ask("b")
    done = []
    for name in ("first", "second"):
        house.broker.instruct(0, {"name": name, "deadline": 1000}, lambda t, o: done.append(o.end))
    for _ in range(3):
        house.reply()
    assert house.names() == ["a", "first", "second", "b"]
    house.reply()
    assert done == [End.REPLIED, End.REPLIED]
