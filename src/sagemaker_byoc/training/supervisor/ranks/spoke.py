"""Any other host's end of the control channel: it reports to the first host and obeys it."""

from __future__ import annotations

import selectors
import socket
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
)
from sagemaker_byoc.training.supervisor.ranks import connection
from sagemaker_byoc.training.supervisor.ranks.connection import Message, Wire
from sagemaker_byoc.training.supervisor.ranks.hub import BEAT_SECONDS, lost_report, signal_name

VERDICT_SECONDS = ECHO_SECONDS + COLLECT_SECONDS + 1.0
"""Seconds that the first host has to judge; after them this host decides by what it knows."""
CONNECT_SECONDS = 1.0
RETRY_SECONDS = 0.2


class Spoke(Link):
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
            return  # it may not have started yet; the caller has the deadline
        self._heard = monotonic()
        self._wire = Wire(sock, self._selector, on_message=self._on_message, on_lost=self._on_lost)
        self._wire.send("hello", run=self._terms.run_id, host=self._host, processes=self._processes)

    def _on_message(self, _: Wire, message: Message) -> None:
        self._heard = monotonic()
        match message["kind"]:
            case "start":
                self.counts = connection.counts(message, "processes")
            case "end":
                self._obey(Order.END)
            case "abort":
                self._obey(Order.ABORT)
            case "verdict":
                self.verdict = Report(
                    host=connection.text(message, "host"),
                    rank=connection.optional_count(message, "rank"),
                    code=connection.count(message, "code") or HANG_CODE,
                    text=connection.text(message, "text"),
                    is_secondary=False,
                    time=self._heard,
                )
                self.is_settled = True
                self._obey(None)
            case "bye":
                self.is_settled = True
            case "stopped":
                self._on_stopped(
                    connection.text(message, "host"), connection.count(message, "signal")
                )

    def _obey(self, order: Order | None) -> None:
        self._order = order or self._order
        self._give_up_at = min(self._give_up_at, monotonic() + VERDICT_SECONDS)
        self.due = 0.0

    def _on_stopped(self, host: str, number: int) -> None:
        self._terms.say(f"{host[:100]} was stopped by {signal_name(number)}")
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
        report = lost_report(self.hub_name, f"its connection was lost: {reason}", now)
        self._own.add(report, now)
        self._give_up_at = min(self._give_up_at, now + COLLECT_SECONDS)
        self.due = 0.0
