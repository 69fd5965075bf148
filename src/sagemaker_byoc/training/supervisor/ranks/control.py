"""The control channel between the hosts of a job: the first host's end, and every other host's.

The hub, on the first host, gathers the hosts and judges every failure. The spokes report to it and
obey it.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from signal import Signals
from time import monotonic

from sagemaker_byoc.training.supervisor.failure.first_cause import (
    COLLECT_SECONDS,
    ECHO_SECONDS,
    HANG_CODE,
    NEVER,
    FirstCause,
    Link,
    Order,
    Report,
    State,
    Terms,
    hang_report,
)
from sagemaker_byoc.training.supervisor.ranks.connection import Message, Wire

BEAT_SECONDS = 1.0
MOST_UNIDENTIFIED = 64
"""Most connections that have not sent their host's name."""
MOST_PROCESSES = 4096
LOST_CODE = 1
VERDICT_SECONDS = ECHO_SECONDS + COLLECT_SECONDS + 1.0
"""Seconds that the first host has to judge; then this host decides by what it knows."""
CONNECT_SECONDS = 1.0
RETRY_SECONDS = 0.2


@dataclass(slots=True)
class Peer:
    """Another host that has joined the job."""

    wire: Wire
    processes: int
    heard: float = field(default_factory=monotonic)
    is_over: bool = False
    is_gone: bool = False
    quiet: float = 0.0
    stalled: float | None = None


class Hub(Link):
    """The first host's end. `hosts` are all of the distribution, this one first."""

    def __init__(
        self,
        hosts: Sequence[str],
        processes: int,
        *,
        listener: socket.socket,
        terms: Terms,
    ) -> None:
        self._hosts = hosts
        self._processes = processes
        self._listener = listener
        self._terms = terms
        self._first_cause = FirstCause()
        self._peers: dict[str, Peer] = {}
        self._unidentified: list[Wire] = []
        self._names: dict[Wire, str] = {}
        self._peer_stop: Signals | None = None
        self._has_ended = False
        self.counts: list[int] = []
        """Processes of each host, in the hosts' order, once all have joined."""

    @property
    def missing(self) -> list[str]:
        """Hosts that have not joined yet."""
        return [host for host in self._hosts[1:] if host not in self._peers]

    def register(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def report(self, report: Report) -> None:
        self._first_cause.add(report, monotonic())
        self.due = 0.0

    def advance(self, now: float, state: State) -> Order | None:
        self._look_for_lost(now)
        self._beat()
        self.due = min(now + BEAT_SECONDS, self._first_cause.due)
        if self._first_cause.best is None:
            if self._peer_stop:
                return Order.STOP
            if self._is_all_over(state):
                self._conclude()
            elif self.counts and not state.is_over and self._hangs(state):
                self._first_cause.add(
                    hang_report(self._hosts[0], self._terms.hang_seconds, now), now
                )
                return self._end("abort", Order.ABORT)
            return None
        return self._judge(now, state)

    def leave(self, stop: Signals | None) -> None:
        if stop:
            for peer in self._present():
                peer.wire.send("stopped", host=self._hosts[0], signal=int(stop))
        for peer in self._peers.values():
            peer.wire.close()
        for wire in self._unidentified:
            wire.close()
        self._listener.close()

    def _judge(self, now: float, state: State) -> Order | None:
        order = None
        if self._first_cause.is_time_to_end_others(now) and not self._has_ended:
            order = self._end("end", Order.END)
        verdict = self._first_cause.verdict(now, is_complete=self._is_all_over(state))
        if verdict and self.verdict is None:
            self.verdict = verdict
            for peer in self._present():
                peer.wire.send(
                    "verdict",
                    host=verdict.host,
                    rank=verdict.rank,
                    code=verdict.code,
                    text=verdict.text,
                )
        # A host that is slow to end has its verdict, and does not need this host any longer.
        self.is_settled = self.verdict is not None
        self.due = min(now + BEAT_SECONDS, self._first_cause.due)
        return order

    def _end(self, kind: str, order: Order) -> Order:
        self._has_ended = True
        for peer in self._present():
            peer.wire.send(kind)
        return order

    def _conclude(self) -> None:
        for peer in self._present():
            peer.wire.send("bye")
        self.is_settled = True

    def _present(self) -> list[Peer]:
        return [peer for peer in self._peers.values() if not peer.is_gone]

    def _is_all_over(self, state: State) -> bool:
        return state.is_over and all(peer.is_over for peer in self._present())

    def _hangs(self, state: State) -> bool:
        """Return whether a rank that reports its steps made none, or nobody wrote anything."""
        peers = [peer for peer in self._present() if not peer.is_over]
        stalls = [s for s in (state.stalled, *(peer.stalled for peer in peers)) if s is not None]
        if stalls:
            return max(stalls) >= self._terms.hang_seconds
        return min([state.quiet, *(peer.quiet for peer in peers)]) >= self._terms.hang_seconds

    def _beat(self) -> None:
        for peer in self._present():
            peer.wire.send("alive")

    def _look_for_lost(self, now: float) -> None:
        for name, peer in self._peers.items():
            if not peer.is_gone and now - peer.heard > self._terms.lost_seconds:
                peer.is_gone = True
                peer.wire.close()
                self.report(_lost_report(name, f"silent for {self._terms.lost_seconds:g} s", now))

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        if len(self._unidentified) >= MOST_UNIDENTIFIED:
            self._unidentified.pop(0).close()
        wire = Wire(sock, self._selector, on_message=self._on_message, on_lost=self._on_lost)
        self._unidentified.append(wire)

    def _on_message(self, wire: Wire, message: Message) -> None:
        name = self._names.get(wire)
        if name is None:
            self._admit(wire, message)
            return
        peer = self._peers[name]
        peer.heard = now = monotonic()
        match message["kind"]:
            case "beat":
                peer.quiet = message["quiet"]
                peer.stalled = message["stalled"]
                peer.is_over = message["over"]
                if peer.is_over:
                    self.due = 0.0
            case "failed":
                self.report(_report_of(name, message, now))
            case "stopped":
                peer.is_gone = True
                self._on_stopped(name, message["signal"])

    def _admit(self, wire: Wire, message: Message) -> None:
        host = message.get("host")
        is_known = message["kind"] == "hello" and message["run"] == self._terms.run_id
        if (
            not is_known
            or host not in self.missing
            or not 0 < message["processes"] <= MOST_PROCESSES
        ):
            self._terms.say(f"refused a connection to the control port: {str(message)[:100]}")
            self._on_lost(wire, "refused")
            wire.close()
            return
        self._unidentified.remove(wire)
        self._names[wire] = str(host)
        self._peers[str(host)] = Peer(wire, message["processes"])
        if not self.missing:
            others = (self._peers[host].processes for host in self._hosts[1:])
            self.counts = [self._processes, *others]
            for peer in self._peers.values():
                peer.wire.send("start", processes=[*self.counts])

    def _on_lost(self, wire: Wire, reason: str) -> None:
        name = self._names.get(wire)
        if name is None:
            if wire in self._unidentified:
                self._unidentified.remove(wire)
            return
        peer = self._peers[name]
        if not self.counts:
            del self._peers[name]  # the host may connect again until all have joined
        elif not peer.is_gone and self.verdict is None:
            peer.is_gone = True
            self.report(_lost_report(name, f"its connection was lost: {reason}", monotonic()))

    def _on_stopped(self, name: str, number: int) -> None:
        self._terms.say(f"{name} was stopped by {_signal_name(number)}")
        for peer in self._present():
            peer.wire.send("stopped", host=name, signal=number)
            peer.is_gone = True  # from now on each host stops by itself
        self._peer_stop = Signals.SIGTERM
        self.due = 0.0


def _report_of(host: str, message: Message, now: float) -> Report:
    return Report(
        host=host,
        rank=message["rank"],
        code=message["code"] or LOST_CODE,
        text=message["text"],
        is_secondary=message["secondary"],
        time=now - max(0.0, message["age"]),
    )


def _lost_report(host: str, how: str, now: float) -> Report:
    text = f"host {host} has vanished ({how})\n[{host}]\nhint: the instance or its container ended"
    return Report(host, None, LOST_CODE, text, is_secondary=False, time=now)


def _signal_name(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"


class Spoke(Link):
    """Any other host's end."""

    def __init__(
        self,
        host: str,
        processes: int,
        *,
        hub: tuple[str, int],
        hub_name: str,
        terms: Terms,
    ) -> None:
        self._host = host
        self._processes = processes
        self._hub = hub
        self.hub_name = hub_name
        self._terms = terms
        self._wire: Wire | None = None
        self._heard = 0.0
        self._own = FirstCause()
        self._give_up_at = NEVER
        self._order: Order | None = None
        self._was_over = False
        self.counts: list[int] = []
        """Processes of each host, in the hosts' order, once all have joined."""

    def register(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector

    def report(self, report: Report) -> None:
        now = monotonic()
        self._own.add(report, now)
        self._give_up_at = min(self._give_up_at, now + VERDICT_SECONDS)
        self.due = 0.0
        if self._wire:
            self._wire.send(
                "failed",
                rank=report.rank,
                code=report.code,
                text=report.text,
                secondary=report.is_secondary,
                age=now - report.time,
            )

    def advance(self, now: float, state: State) -> Order | None:
        if self._wire is None and not self.counts:
            self._connect(now)
            return None
        if self._wire and now - self._heard > self._terms.lost_seconds:
            self._wire.close()
            self._on_lost(self._wire, f"silent for {self._terms.lost_seconds:g} s")
        if self._wire:
            self._wire.send("beat", quiet=state.quiet, stalled=state.stalled, over=state.is_over)
        order, self._order = self._order, None
        is_on_its_own = self._wire is None or now >= self._give_up_at
        if order is None and is_on_its_own and self._own.is_time_to_end_others(now):
            order = Order.END
        if now >= self._give_up_at and not self.is_settled:
            self.verdict = self._own.verdict(now, is_complete=True)
            self.is_settled = True
        self.due = now + BEAT_SECONDS
        if not self.is_settled:
            self.due = min(self.due, self._give_up_at, self._own.due if is_on_its_own else NEVER)
        return order

    def leave(self, stop: Signals | None) -> None:
        if self._wire:
            if stop:
                self._wire.send("stopped", host=self._host, signal=int(stop))
            self._wire.close()

    def _connect(self, now: float) -> None:
        self.due = now + RETRY_SECONDS
        try:
            sock = socket.create_connection(self._hub, timeout=CONNECT_SECONDS)
        except OSError:
            return  # the first host may not have started yet; the caller has the deadline
        self._heard = monotonic()
        self._wire = Wire(sock, self._selector, on_message=self._on_message, on_lost=self._on_lost)
        self._wire.send("hello", run=self._terms.run_id, host=self._host, processes=self._processes)

    def _on_message(self, _: Wire, message: Message) -> None:
        self._heard = monotonic()
        match message["kind"]:
            case "start":
                self.counts = message["processes"]
            case "end":
                self._obey(Order.END)
            case "abort":
                self._obey(Order.ABORT)
            case "verdict":
                self.verdict = Report(
                    host=message["host"],
                    rank=message["rank"],
                    code=message["code"] or HANG_CODE,
                    text=message["text"],
                    is_secondary=False,
                    time=self._heard,
                )
                self.is_settled = True
                self._obey(None)
            case "bye":
                self.is_settled = True
            case "stopped":
                self._on_stopped(message["host"], message["signal"])

    def _obey(self, order: Order | None) -> None:
        self._order = order or self._order
        self._give_up_at = min(self._give_up_at, monotonic() + VERDICT_SECONDS)
        self.due = 0.0

    def _on_stopped(self, host: str, number: int) -> None:
        self._terms.say(f"{host[:100]} was stopped by {_signal_name(number)}")
        self.is_settled = True
        if self._wire:
            self._wire.close()
            self._wire = None
        self._obey(Order.STOP)

    def _on_lost(self, _: Wire, reason: str) -> None:
        self._wire = None
        if not self.counts or self.is_settled:
            return
        now = monotonic()
        report = _lost_report(self.hub_name, f"its connection was lost: {reason}", now)
        self._own.add(report, now)
        self._give_up_at = min(self._give_up_at, now + COLLECT_SECONDS)
        self.due = 0.0
