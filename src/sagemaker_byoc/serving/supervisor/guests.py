"""The processes of a multi-model endpoint: one a model, started and ended as the front asks.

Part of the supervisor: standard library only, one thread, never waits.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable

from sagemaker_byoc.serving import control, log
from sagemaker_byoc.serving.control import Channel, Message
from sagemaker_byoc.serving.supervisor import processes
from sagemaker_byoc.serving.supervisor.slots import Slot

RETRY = 0.1
"""Seconds until the front may have room for what it is told."""


class Guests:
    """Models by name. `start` is the supervisor's way to start a slot's worker."""

    def __init__(
        self, channel: socket.socket, *, start: Callable[[Slot], None], patience: float
    ) -> None:
        self.channel = Channel(channel)
        self.slots: dict[str, Slot] = {}
        self._ending: dict[str, tuple[int, str, int]] = {}
        """Models whose process was reaped; something that it started may still be there."""
        self._start = start
        self._patience = patience

    def hear(self) -> None:
        for message in self.channel.receive():
            self._obey(message)
        self.channel.flush()

    def _obey(self, message: Message) -> None:
        what, name = message["what"], message.get("name", "")
        if what == control.LIST:
            for slot in self.slots.values():
                self.channel.send(control.KNOWN, name=slot.model, url=slot.url)
            self.channel.send(control.LISTED)
        elif what == control.START and name not in self.slots:
            slot = Slot(self._free_index(), model=name, url=message["url"])
            self.slots[name] = slot
            self._start(slot)
        elif what == control.STOP:
            self._stop(name)

    def _free_index(self) -> int:
        """The lowest: models spread over the GPUs."""
        taken = {slot.index for slot in self.slots.values()}
        return next(index for index in range(len(taken) + 1) if index not in taken)

    def _stop(self, name: str) -> None:
        slot = self.slots.get(name)
        if slot is None:
            self.channel.send(control.ENDED, name=name, how="is not there", code=0)
        elif slot.kill_at is None:
            slot.kill_at = time.monotonic() + self._patience
            slot.start_at = None
            if slot.pid is not None:
                processes.send(slot.pid, signal.SIGTERM)
            elif name not in self._ending:
                self._forget(slot, "waited for its next start", 0)

    def on_end(self, slot: Slot, returncode: int) -> None:
        """The model's own process was reaped."""
        assert slot.pid is not None
        slot.read_report()
        pid, slot.pid = slot.pid, None
        how = processes.describe(returncode)
        if slot.was_loaded and slot.kill_at is None:
            delay = slot.restarts.died(time.monotonic())
            if delay is not None:
                log.say(f"model {slot.model}: its worker {how}; a new one starts in {delay:g} s")
                slot.start_at = time.monotonic() + delay
                return
            how += ", again and again"
        self._ending[slot.model] = (pid, how, returncode)

    def step(self) -> float | None:
        """What is due; seconds until the next look, None if nothing is on its way."""
        now = time.monotonic()
        for slot in self.slots.values():
            if slot.kill_at is not None and slot.pid is not None and now >= slot.kill_at:
                processes.kill_session(slot.pid)
                slot.kill_at = now + self._patience
        for name, (pid, how, code) in list(self._ending.items()):
            if processes.is_session_gone(pid):
                del self._ending[name]
                self._forget(self.slots[name], how, code)
        self.channel.flush()
        if self._ending or self.channel.is_behind:
            return RETRY
        kills = [slot.kill_at for slot in self.slots.values() if slot.kill_at is not None]
        return max(0.0, min(kills) - now) if kills else None

    def _forget(self, slot: Slot, how: str, code: int) -> None:
        del self.slots[slot.model]
        slot.close()
        log.say(f"model {slot.model}: its worker {how}; it is unloaded")
        self.channel.send(control.ENDED, name=slot.model, how=how, code=code)
