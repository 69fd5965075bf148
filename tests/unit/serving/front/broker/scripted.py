"""A broker whose lanes only record what they are sent, with a clock that the test moves."""

from __future__ import annotations

from dataclasses import dataclass, field

from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.front.broker.admission import Admission, Room
from sagemaker_byoc.serving.front.broker.broker import Broker
from sagemaker_byoc.serving.link import LinkError

TOOK = 2e-4
"""Seconds that a request takes: too long to be tiny, too short to go alone."""


@dataclass(eq=False)
class RecordingLane:
    """A lane that records calls. Like a worker, it begins a packet when it has none, and leaves
    the others where they can be taken back."""

    slot: int = 0
    is_single: bool = True
    error: LinkError | None = None
    inbox: list = field(default_factory=list)
    """Packets that the worker has not received."""
    received: list = field(default_factory=list)
    """The rest of the packet that it received last."""
    running: set = field(default_factory=set)
    sent: list = field(default_factory=list)
    """Requests that were begun: pairs of id and name."""
    batches: list = field(default_factory=list)
    signals: list = field(default_factory=list)

    def send(self, tickets):
        if self.error:
            raise self.error
        self.inbox.append([(ticket.id, ticket.meta["name"]) for ticket in tickets])
        self.begin()

    def begin(self):
        if self.running:
            return
        if not self.received and self.inbox:
            self.received = self.inbox.pop(0)
        if self.received:
            count = 1 if self.is_single else len(self.received)
            begun, self.received = self.received[:count], self.received[count:]
            self.running = {ident for ident, _ in begun}
            self.batches.append([name for _, name in begun])
            self.sent += begun

    def finish(self, *idents):
        self.running.difference_update(idents)
        self.begin()

    def take_back(self, most):
        found, self.inbox = self.inbox[:most], self.inbox[most:]
        return [ident for packet in found for ident, _ in packet]

    def begun(self):
        return self.sent[-1][0] if self.sent else 0

    def cancel(self, ident):
        self.signals.append(f"cancel {ident}")

    def hold(self):
        self.signals.append("hold")

    def resume(self):
        self.signals.append("resume")

    def abort(self):
        self.signals.append("abort")

    def kill(self):
        self.signals.append("kill")


class ScriptedBroker:
    """A broker, its clock, and what became of each request."""

    def __init__(self, slots=1, queue=2, batch=1, target=None):
        self.now = 100.0
        self.ends = {}
        self.batch = batch
        self.broker = Broker(
            slots=slots,
            admission=Admission(requests=slots + queue, room=Room(1000)),
            stuck_grace=5,
            target=target,
            clock=lambda: self.now,
        )
        self.lanes = [self.arrive(slot) for slot in range(slots)]

    def arrive(self, slot=0):
        lane = RecordingLane(slot, is_single=self.batch == 1)
        self.broker.join(lane)
        self.broker.ready(lane, batch=self.batch)
        self.broker._slots[slot].took(TOOK)
        return lane

    def ask(self, name, timeout=10, size=0, slot=None):
        def done(_ticket, outcome):
            assert name not in self.ends
            self.ends[name] = outcome

        meta = {"name": name, "stream_deadline": self.now + 100}
        return self.broker.submit(meta, Body(bytes(size)), self.now + timeout, done, slot)

    def names(self, lane=None):
        return [name for _, name in (lane or self.lanes[0]).sent]

    def reply(self, lane=None, ident=None):
        lane = lane or self.lanes[0]
        meta = {"times": {"predict": TOOK}}
        self.answer(lane, ident or lane.sent[-1][0], meta, Body(b"ok"))

    def answer(self, lane, ident, meta, body):
        lane.finish(ident)
        self.broker.answer(lane, [(ident, meta, body)])

    def reply_all(self, lane=None):
        lane = lane or self.lanes[0]
        running = lane.sent[-len(lane.batches[-1]) :]
        lane.finish(*lane.running)
        self.broker.answer(lane, [(ident, {}, Body(b"ok")) for ident, _ in running])

    def pass_time(self, seconds):
        self.now += seconds
        self.broker.tick()
