"""The broker, with lanes that only take notes and a clock that the test moves."""

from __future__ import annotations

import pytest
from tests.unit.serving.front.broker.scripted import RecordingLane, ScriptedBroker

from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.error_replies import Unavailable, UnknownModel
from sagemaker_byoc.serving.front.broker.admission import Admission, Room
from sagemaker_byoc.serving.front.broker.broker import Broker
from sagemaker_byoc.serving.front.broker.slots import DEPTH, KILL_AFTER
from sagemaker_byoc.serving.front.broker.tickets import End
from sagemaker_byoc.serving.link import ClosedError, FullError, LinkError


@pytest.fixture
def scripted():
    return ScriptedBroker()


def test_idle_gets_it_at_once(scripted):
    """No request waits while a worker is idle; the next follows when it answers."""
    scripted.ask("a")
    scripted.ask("b")
    assert scripted.names() == ["a"]
    scripted.now += 2
    scripted.reply()
    assert scripted.names() == ["a", "b"]
    assert (scripted.ends["a"].end, scripted.ends["a"].ran) == (End.REPLIED, 2)
    scripted.reply()
    assert scripted.ends["b"].queued == 2


def test_admission():
    """Slots and queue count together; what is released makes room, once."""
    scripted = ScriptedBroker(slots=1, queue=1)
    permits = [scripted.broker.admit(), scripted.broker.admit()]
    with pytest.raises(Unavailable):
        scripted.broker.admit()
    permits[0].release()
    permits[0].release()
    scripted.broker.admit()
    with pytest.raises(Unavailable):
        scripted.broker.admit()


def test_deadline_in_queue(scripted):
    """An expired request never reaches a worker."""
    scripted.ask("a", timeout=100)
    scripted.ask("b", timeout=10)
    scripted.pass_time(10)
    assert scripted.ends["b"].end is End.EXPIRED
    scripted.reply()
    assert scripted.names() == ["a"]


def test_late_reply(scripted):
    """A reply after the deadline frees the worker and reaches nobody."""
    scripted.ask("a")
    scripted.pass_time(11)
    assert scripted.ends["a"].end is End.EXPIRED
    scripted.ask("b")
    scripted.reply()
    assert scripted.names() == ["a", "b"]
    scripted.reply(ident=scripted.lanes[0].sent[0][0])  # a again: stale
    assert "b" not in scripted.ends


def test_stuck(scripted):
    """First its stacks, then its end; not again before the next time."""
    scripted.ask("a")
    scripted.pass_time(14)
    assert scripted.lanes[0].signals == []
    scripted.pass_time(1)
    scripted.pass_time(KILL_AFTER / 2)
    assert scripted.lanes[0].signals == ["abort"]
    scripted.pass_time(KILL_AFTER)
    assert scripted.lanes[0].signals == ["abort", "kill"]


def test_lost_worker(scripted):
    """Its request ends, the queue waits for its successor."""
    scripted.ask("a")
    scripted.ask("b")
    scripted.broker.lose(scripted.lanes[0])
    scripted.broker.lose(scripted.lanes[0])
    assert scripted.ends["a"].end is End.LOST
    assert (scripted.broker.health().status, "b" in scripted.ends) == ("restarting", False)
    scripted.broker.admit()
    successor = scripted.arrive()
    assert scripted.names(successor) == ["b"]
    scripted.reply(scripted.lanes[0], ident=successor.sent[0][0])  # from the dead one
    assert "b" not in scripted.ends


def test_unreachable_worker():
    """A request that could not be handed over goes to another worker."""
    scripted = ScriptedBroker(slots=2)
    lost = []
    scripted.broker.on_lost = lost.append
    scripted.lanes[0].error = ClosedError("gone")
    scripted.ask("a")
    assert scripted.names(scripted.lanes[1]) == ["a"]
    assert lost == scripted.lanes[:1]


def test_unsendable(scripted):
    """A request that fits into no frame fails alone."""
    scripted.lanes[0].error = LinkError("too large")
    scripted.ask("a")
    assert (scripted.ends["a"].end, scripted.ends["a"].reason) == (End.UNSENDABLE, "too large")
    scripted.lanes[0].error = None
    scripted.ask("b")
    assert scripted.names() == ["b"]


def test_successor_replaces(scripted):
    """A slot's new worker takes over even where the end of the old one was not seen yet."""
    scripted.ask("a")
    successor = scripted.arrive()
    assert scripted.ends["a"].end is End.LOST
    scripted.broker.lose(scripted.lanes[0])
    scripted.ask("b")
    assert scripted.names(successor) == ["b"]


def test_health():
    """Ready with one worker; before that the reason, of which a failure comes first."""
    broker = Broker(slots=2, admission=Admission(requests=2, room=Room(1)), stuck_grace=1)
    assert broker.health().status == "loading"
    with pytest.raises(Unavailable, match="being loaded"):
        broker.admit()
    first, second = RecordingLane(0), RecordingLane(1)
    broker.join(first)
    broker.fail(first, "no weights")
    assert (broker.health().status, broker.health().reason) == ("failed", "no weights")
    broker.join(second)
    broker.ready(second)
    assert broker.health().is_ready


def test_unknown_slot(scripted):
    """A worker of a slot that does not exist breaks the protocol."""
    with pytest.raises(LinkError):
        scripted.broker.join(RecordingLane(7))


def test_fewer_workers_than_possible():
    """Slots that get no worker are not waited for, and no place in the queue remains of them."""
    broker = Broker(
        slots=4, admission=Admission(requests=4 + 2, room=Room(1000)), stuck_grace=5, clock=float
    )
    assert (broker.size, broker.away()) == (4, {0, 1, 2, 3})
    broker.resize(1)
    broker.resize(3)  # never more than before
    lane = RecordingLane(0)
    broker.join(lane)
    broker.ready(lane)
    assert (broker.size, broker.away()) == (1, set())
    with pytest.raises(LinkError, match="no slot 1"):
        broker.join(RecordingLane(1))
    permits = [broker.admission.admit() for _ in range(3)]
    with pytest.raises(Unavailable, match="3 requests are already"):
        broker.admission.admit()
    assert len(permits) == 3


def test_bytes_are_bounded():
    """Bodies wait in memory, so they count too; one alone may be as large as it likes."""
    scripted = ScriptedBroker(queue=5)
    first, second = scripted.broker.admit(), scripted.broker.admit()
    first.hold(900)
    with pytest.raises(Unavailable, match="900 bytes"):
        second.hold(200)
    second.hold(100)
    first.release()
    second.release()
    scripted.broker.admit().hold(5000)


def test_arriving_bodies_hold_no_place():
    """Whole bodies are let in by the order in which they became whole, beside any number that
    still arrive; those have limits of their own."""
    scripted = ScriptedBroker(queue=1)
    slow = [scripted.broker.arrive() for _ in range(50)]
    first, second = scripted.broker.admit(), scripted.broker.arrive()
    scripted.broker.enter(second)
    with pytest.raises(Unavailable, match="2 requests"):
        scripted.broker.enter(slow[0])
    with pytest.raises(Unavailable, match="2 requests"):
        scripted.broker.arrive()  # what could only wait in vain need not be sent
    first.release()
    scripted.broker.enter(slow[1])
    for permit in (*slow, second):
        permit.release()
        permit.release()
    assert (scripted.broker.admission.requests, scripted.broker.admission.arriving) == (0, 0)


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
    scripted = ScriptedBroker(queue=1)
    cuts = []
    permits = []
    for number in range(5):
        permits.append(scripted.broker.admit())
        permits[-1].hold(500)
        permits[-1].leave(300, lambda number=number: cuts.append(number))
    assert cuts == [0, 1]  # of five times 300 bytes 1000 are left
    room = scripted.broker.admission.room
    assert (scripted.broker.admission.requests, room.held, room.leaving) == (0, 0, 900)
    scripted.broker.admit().leave(5000, lambda: cuts.append("large"))  # more than fits, alone
    assert cuts == [0, 1, 2, 3, 4]
    for permit in permits:
        permit.release()
    assert (room.leaving, len(room.senders)) == (5000, 1)


def test_model_unloaded_while_a_body_arrives(scripted):
    """It is not let in to wait for a model that never comes back."""
    permit = scripted.broker.arrive()
    scripted.broker.shut()
    with pytest.raises(UnknownModel):
        scripted.broker.enter(permit)


def test_short_restart_is_healthy():
    """While what comes can wait for the worker, /ping says 200; after that it says why not."""
    scripted = ScriptedBroker()
    scripted.broker.restart_grace = 50
    scripted.broker.lose(scripted.lanes[0])
    scripted.pass_time(49)
    assert (scripted.broker.health().is_ready, scripted.broker.health().status) == (
        True,
        "restarting",
    )
    scripted.pass_time(2)
    assert (scripted.broker.health().is_ready, scripted.broker.health().status) == (
        False,
        "restarting",
    )
    scripted.arrive()
    assert scripted.broker.health().status == "ready"
    scripted.pass_time(100)
    scripted.broker.lose(scripted.broker.lanes()[0])
    assert scripted.broker.health().is_ready  # each restart has its own time


def test_first_load_is_not_a_restart():
    """A model that has never been ready is not healthy, however short it has been loading."""
    broker = Broker(slots=1, admission=Admission(requests=2, room=Room(1)), stuck_grace=1)
    broker.restart_grace = 50
    broker.join(RecordingLane())
    assert not broker.health().is_ready


def test_instructions(scripted):
    """Before all that waits for the slot, in their own order; none is lost with others' ends."""
    scripted.ask("a")
    scripted.ask("b")
    done = []
    for name in ("first", "second"):
        scripted.broker.instruct(
            0, {"name": name, "deadline": 1000}, lambda t, o: done.append(o.end)
        )
    for _ in range(3):
        scripted.reply()
    assert scripted.names() == ["a", "first", "second", "b"]
    scripted.reply()
    assert done == [End.REPLIED, End.REPLIED]


def test_next_requests_are_at_hand():
    """A worker that takes one at a time has its next ones without waiting for the front; the rest
    waits where any worker can take it."""
    scripted = ScriptedBroker(queue=99)
    for number in range(20):
        scripted.ask(str(number))
    assert len(scripted.lanes[0].inbox) == DEPTH // 4
    assert len(scripted.broker.waiting) == 19 - DEPTH // 4
    for _ in range(20):
        scripted.reply()
    assert scripted.names() == [str(number) for number in range(20)]


def test_requests_go_to_the_worker_with_the_fewest():
    scripted = ScriptedBroker(slots=2, queue=99)
    for name in "abcdef":
        scripted.ask(name)
    assert [len(lane.inbox) for lane in scripted.lanes] == [2, 2]


def test_lost_worker_loses_what_it_has_begun():
    """What it had at hand goes to another, in its order, before what came later."""
    scripted = ScriptedBroker(slots=2, queue=99)
    for name in "abcdef":
        scripted.ask(name)
    first, second = scripted.lanes
    scripted.broker.lose(first)
    assert [(name, end.end) for name, end in scripted.ends.items()] == [("a", End.LOST)]
    for _ in range(5):
        scripted.reply(second)
    assert sorted(scripted.names(second)) == list("bcdef")
    assert scripted.names(second)[0] == "b"
    assert "c" in scripted.ends


def test_idle_worker_takes_from_a_busy_one():
    """A request that takes long holds up none of those that were handed over behind it."""
    scripted = ScriptedBroker(slots=2, queue=99)
    for name in ("slow", "b", "c", "d"):
        scripted.ask(name)
    slow, quick = scripted.lanes
    assert scripted.names(slow) == ["slow"]
    for _ in range(3):
        scripted.reply(quick)
    assert sorted(scripted.names(quick)) == ["b", "c", "d"]
    assert (scripted.names(slow), slow.inbox) == (["slow"], [])


def test_stuck_worker_gives_up_what_is_at_hand():
    """Its deadline is that of the request that it runs, and the others are handed to the next."""
    scripted = ScriptedBroker()
    scripted.ask("stuck", timeout=10)
    scripted.ask("later", timeout=1000)
    scripted.pass_time(15)
    assert scripted.lanes[0].signals == ["abort"]
    scripted.broker.lose(scripted.lanes[0])
    assert scripted.names(scripted.arrive()) == ["later"]


def test_full_socket_is_not_the_end():
    """A worker with requests at hand whose socket has no room keeps them; the next one waits."""
    scripted = ScriptedBroker(queue=99)
    scripted.ask("a")
    scripted.lanes[0].error = FullError("no room")
    scripted.ask("b")
    assert (scripted.broker.present(), len(scripted.broker.waiting)) == ([0], 1)
    scripted.lanes[0].error = None
    scripted.ask("c")
    assert scripted.names() == ["a"]
    scripted.reply()
    scripted.reply()
    assert scripted.names() == ["a", "b", "c"]


def test_expired_request_is_taken_back():
    """What its caller no longer waits for does not run, though it was handed over."""
    scripted = ScriptedBroker()
    scripted.ask("a", timeout=100)
    scripted.ask("b", timeout=10)
    scripted.ask("c", timeout=100)
    scripted.pass_time(10)
    scripted.reply()
    scripted.reply()
    assert scripted.names() == ["a", "c"]


def test_time_of_a_request_at_hand(scripted):
    """It waits until the one before it has its reply, wherever it lies meanwhile."""
    scripted.ask("a")
    scripted.ask("b")
    scripted.now += 3
    scripted.reply()
    scripted.now += 1
    scripted.reply()
    assert (scripted.ends["b"].queued, scripted.ends["b"].ran) == (3, 1)


def test_session_at_hand_ends_with_its_worker():
    """No other worker can serve it."""
    scripted = ScriptedBroker(slots=2, queue=99)
    scripted.ask("a", slot=0)
    scripted.ask("b", slot=0)
    scripted.broker.lose(scripted.lanes[0])
    assert {name: outcome.end for name, outcome in scripted.ends.items()} == {
        "a": End.LOST,
        "b": End.LOST,
    }


def quick(scripted):
    """Let the broker know that requests take 50 microseconds, on each worker."""
    for lane in scripted.lanes:
        learn(scripted.broker._slots[lane.slot], 5e-5)


def learn(slot, seconds):
    """Let the slot know nothing but one request that took so long."""
    slot.mean = slot.median = 0.0
    slot.took(seconds)


def together(scripted, names):
    """Ask for all before the event loop goes on."""
    calls = []
    scripted.broker.later, at_once = calls.append, scripted.broker.later
    for name in names:
        scripted.ask(name)
    scripted.broker.later = at_once
    for call in calls:
        call()
    return calls


def test_what_arrives_together_goes_together():
    """In one packet for each worker; a worker that is idle waits for nothing."""
    scripted = ScriptedBroker(slots=2, queue=99)
    assert len(together(scripted, "abcdefgh")) == 1
    assert [scripted.names(lane) for lane in scripted.lanes] == [["a"], ["b"]]
    assert [[len(packet) for packet in lane.inbox] for lane in scripted.lanes] == [[3], [3]]


def test_packet_is_half_of_what_may_be_at_hand():
    """The next one comes when little of it is left."""
    scripted = ScriptedBroker(queue=99)
    together(scripted, [str(number) for number in range(40)])
    (lane,) = scripted.lanes
    assert [len(packet) for packet in lane.inbox] == [DEPTH // 2]
    for _ in range(40):
        scripted.reply()
    assert scripted.names() == [str(number) for number in range(40)]


def test_long_requests_go_one_by_one():
    """One waits at the worker, where it can be taken back; all others wait for any worker."""
    scripted = ScriptedBroker(queue=99)
    scripted.ask("a")
    lane = scripted.lanes[0]
    lane.finish(*lane.running)
    times = {"predict": 2.0}
    scripted.broker.answer(lane, [(lane.sent[-1][0], {"times": times}, Body())])
    together(scripted, "bcdef")
    assert [len(packet) for packet in lane.inbox] == [1]


def test_streams_count_as_long(scripted):
    """What has no times of its own takes as long as it took."""
    scripted.ask("a")
    scripted.now += 5
    scripted.answer(scripted.lanes[0], 1, {}, Body())
    together(scripted, "bcdef")
    assert [len(packet) for packet in scripted.lanes[0].inbox] == [1]


def test_worker_dies_within_a_packet():
    """Only those requests end that it has begun; the others that it has received run elsewhere."""
    scripted = ScriptedBroker(queue=99)
    together(scripted, "abcdef")
    scripted.reply()
    lane = scripted.lanes[0]
    scripted.reply()
    assert (scripted.names(), len(lane.received)) == (list("abc"), 3)
    scripted.broker.lose(lane)
    assert {name: end.end for name, end in scripted.ends.items()} == {
        "a": End.REPLIED,
        "b": End.REPLIED,
        "c": End.LOST,
    }
    successor = scripted.arrive()
    for _ in range(3):
        scripted.reply(successor)
    assert scripted.names(successor) == list("def")


def test_worker_dies_before_it_begins():
    """A worker that has begun nothing loses nothing, also where its last request was answered."""
    scripted = ScriptedBroker(queue=99)
    scripted.ask("a")
    scripted.reply()
    lane = scripted.lanes[0]
    lane.begin = lambda: None
    scripted.ask("b")
    scripted.broker.lose(lane)
    assert scripted.names(scripted.arrive()) == ["b"]


def test_returned_requests():
    """What a worker gives back goes to another, before what came later; strangers are ignored."""
    scripted = ScriptedBroker(slots=2, queue=99)
    together(scripted, "abcdefgh")
    slow, other = scripted.lanes
    scripted.reply(slow)
    back = [ident for ident, _ in slow.received]
    slow.received = []
    scripted.broker.returned(slow, [*back, 999])
    for _ in range(8):
        if other.running:
            scripted.reply(other)
    assert "a" in scripted.ends
    assert len(scripted.ends) == 7
    assert scripted.names(slow)[1:] not in ([], scripted.names(other))


def test_quick_requests_stay_at_one_worker():
    """The idle one is left alone while the busy one is about to be done; a session that is the idle
    one's own, and more work than that, are not."""
    scripted = ScriptedBroker(slots=2, queue=99)
    quick(scripted)
    together(scripted, "abcde")
    first, second = scripted.lanes
    assert (scripted.names(first), [len(packet) for packet in first.inbox]) == (["a"], [4])
    assert (scripted.names(second), second.inbox) == ([], [])
    scripted.ask("own", slot=1)
    assert scripted.names(second) == ["own"]
    scripted.reply(second)
    together(scripted, [str(number) for number in range(40)])
    assert scripted.names(second)[1:] != []
    for _ in range(45):
        scripted.reply(first if first.running else second)
    assert len(scripted.ends) == 46


def test_requests_that_are_not_tiny_go_to_the_idle_worker():
    """Half a millisecond of work is worth a second worker."""
    scripted = ScriptedBroker(slots=2, queue=99)
    for lane in scripted.lanes:
        learn(scripted.broker._slots[lane.slot], 5e-4)
    together(scripted, "ab")
    assert [scripted.names(lane) for lane in scripted.lanes] == [["a"], ["b"]]


def test_requests_that_waited_for_a_cpu_are_still_quick():
    """One in ten took 4 ms, so the mean is not that of a quick one."""
    scripted = ScriptedBroker(slots=2, queue=99)
    quick(scripted)
    for lane in scripted.lanes:
        slot = scripted.broker._slots[lane.slot]
        for number in range(100):
            slot.took(4e-3 if number % 10 == 0 else 5e-5)
        assert slot.mean > 2e-4
    together(scripted, "ab")
    assert [scripted.names(lane) for lane in scripted.lanes] == [["a"], []]


def test_quick_request_that_is_not():
    """If the busy one is not done within two milliseconds, all goes on at the idle one."""
    scripted = ScriptedBroker(slots=2, queue=99)
    calls = []
    scripted.broker.delay = lambda seconds, call: calls.append((seconds, call))
    quick(scripted)
    together(scripted, [str(number) for number in range(20)])
    first, second = scripted.lanes
    assert (len(calls), scripted.names(second)) == (1, [])
    scripted.now += calls[0][0]
    calls.pop()[1]()
    for _ in range(19):
        scripted.reply(second)
    assert (len(scripted.ends), scripted.names(first)) == (19, ["0"])


def test_first_requests_go_one_by_one():
    """Nothing is known of them yet."""
    scripted = ScriptedBroker(queue=99)
    scripted.broker._slots[0].mean = 0.0
    together(scripted, "abcdef")
    assert [len(packet) for packet in scripted.lanes[0].inbox] == [1]


def test_nonsense_is_not_believed():
    """A worker's times may be anything that JSON can say."""
    scripted = ScriptedBroker(queue=99)
    for seconds in (1e308, -1.0):
        scripted.ask("a" if seconds > 0 else "b")
        lane = scripted.lanes[0]
        times = {"times": {"decode": seconds, "predict": seconds}}
        scripted.answer(lane, lane.sent[-1][0], times, Body())
    assert scripted.broker._slots[0].depth == DEPTH


def test_second_busiest_worker_gives_what_the_busiest_can_not():
    """One has received all that it has; another has some in its socket."""
    scripted = ScriptedBroker(slots=3, queue=99)
    together(scripted, [str(number) for number in range(15)])
    first, second, third = scripted.lanes
    first.received, first.inbox = first.inbox.pop(0), []
    second.inbox = [[entry] for packet in second.inbox for entry in packet]
    while third.running:
        scripted.reply(third)
    assert second.inbox == []
    assert len(scripted.names(third)) > 5
