"""The processes of a multi-model endpoint, one per model, started and ended as the front asks.

The front sends its requests over a channel; the supervisor answers with what became of each
process. Standard library only; one thread, never waits.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable

from sagemaker_byoc.serving import log
from sagemaker_byoc.serving.supervisor import processes
from sagemaker_byoc.serving.supervisor.slots import Channel, Message, Slot

START, STOP, LIST = "start", "stop", "list"
"""Messages from the front; the first two with a model's `name`, START with its `url` too."""
KNOWN, LISTED, ENDED = "known", "listed", "ended"
"""Messages from the supervisor: in answer to LIST, one KNOWN per model and then LISTED. ENDED when
a model's process is gone with all that it started, and no other will follow."""
RETRY = 0.1
"""Seconds until a message that did not fit is sent again."""


class ModelProcesses:
    """The processes of models by name; `start` starts the worker of a slot."""

    def __init__(
        self, channel: socket.socket, *, start: Callable[[Slot], None], kill_after: float
    ) -> None:
        self.channel = Channel(channel)
        self.slots: dict[str, Slot] = {}
        self._ending: dict[str, tuple[int, str, int]] = {}
        """Models whose process was reaped while processes that it started may remain."""
        self._start = start
        self._kill_after = kill_after

    def handle_messages(self) -> None:
        for message in self.channel.receive():
            self._handle(message)
        self.channel.flush()

    def _handle(self, message: Message) -> None:
        what, name = message["what"], message.get("name", "")
        if what == LIST:
            for slot in self.slots.values():
                self.channel.send(KNOWN, name=slot.model, url=slot.url)
            self.channel.send(LISTED)
        elif what == START and name not in self.slots:
            slot = Slot(self._free_index(), model=name, url=message["url"])
            self.slots[name] = slot
            self._start(slot)
        elif what == STOP:
            self._stop(name)

    def _free_index(self) -> int:
        """Return the lowest free index, so that models spread over the GPUs."""
        taken = {slot.index for slot in self.slots.values()}
        return next(index for index in range(len(taken) + 1) if index not in taken)

    def _stop(self, name: str) -> None:
        slot = self.slots.get(name)
        if slot is None:
            self.channel.send(ENDED, name=name, how="does not run", code=0)
        elif slot.kill_at is None:
            slot.kill_at = time.monotonic() + self._kill_after
            slot.start_at = None
            if slot.pid is not None:
                processes.send(slot.pid, signal.SIGTERM)
            elif name not in self._ending:
                self._forget(slot, "waited for its next start", 0)

    def on_end(self, slot: Slot, returncode: int) -> None:
        """Handle the end of a model's own process, which was reaped."""
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
        """Do what is due; return the seconds until the next call, None if nothing is pending."""
        now = time.monotonic()
        for slot in self.slots.values():
            if slot.kill_at is not None and slot.pid is not None and now >= slot.kill_at:
                processes.kill_session(slot.pid)
                slot.kill_at = now + self._kill_after
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
        self.channel.send(ENDED, name=slot.model, how=how, code=code)
