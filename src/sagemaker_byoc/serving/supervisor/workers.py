"""The workers of a container's one model: how many there are, and what each is started from.

A loader is the first process. It loads the model, decides how many workers pay, and then becomes
either the first worker or the template, which answers no request: the others are forked from it. A
worker that has ended is forked again, without a load. Only if the template has ended too, the next
worker that is needed is a loader.

The template answers over its channel, and the worker itself reports its pid, before the supervisor
becomes its parent. Standard library only; one thread, never waits.
"""

from __future__ import annotations

import selectors
import socket
import time
from dataclasses import dataclass, field, replace

from sagemaker_byoc.serving import log
from sagemaker_byoc.serving.settings import Settings
from sagemaker_byoc.serving.supervisor import processes
from sagemaker_byoc.serving.supervisor.slots import LOADED, Channel, Message, Restarts, Slot

FORK = "fork"
"""Sent to the template, with a `slot`."""
FORKED, FAILED = "forked", "failed"
"""Sent by a new worker, with its `slot` and `pid`, or by the template, with the reason `why`."""
FORK_TIME = 30.0
"""Seconds after which a template that has not forked is stuck."""
LAST_WORDS = 5.0
"""Seconds for messages of processes that a dead template has left behind."""


class LoadFailedError(Exception):
    """The model can't be loaded, or its workers end again and again; the message says which."""


@dataclass(slots=True, eq=False)
class Template:
    """The process that workers are forked from."""

    pid: int | None
    channel: Channel
    asked: dict[int, float] = field(default_factory=dict)
    """Slots whose worker has been asked for, and when that is overdue."""
    drop_at: float | None = None
    """When to forget it at the latest; set once the process has ended."""

    @property
    def is_usable(self) -> bool:
        return self.pid is not None and not self.channel.is_closed


class Workers:
    """The slots of one model and their processes; none on a multi-model endpoint."""

    def __init__(
        self, settings: Settings, link: socket.socket, selector: selectors.BaseSelector
    ) -> None:
        self._settings = settings
        self._link = link
        self._selector = selector
        self.slots = [Slot(index) for index in range(settings.slots)]
        if settings.is_multi_model:
            self.slots = []
        self._is_counted = not settings.is_automatic
        self._may_fork = settings.may_fork
        self._loader: Slot | None = None
        self._template: Template | None = None
        self._template_restarts = Restarts()
        self._waiting: list[Slot] = []
        """Slots that start once the loader has loaded."""

    @property
    def template_pid(self) -> int | None:
        return None if self._template is None else self._template.pid

    @property
    def was_loaded(self) -> bool:
        for slot in self.slots:
            if slot is not self._loader:
                slot.read_report()
        return any(slot.was_loaded for slot in self.slots)

    def start_all(self) -> None:
        for slot in self.slots:
            self._start(slot)

    def start_due(self, now: float) -> None:
        """Start every worker whose time has come."""
        for slot in list(self.slots):
            if slot.start_at is not None and slot.start_at <= now:
                self._start(slot)

    def _start(self, slot: Slot) -> None:
        slot.start_at = None
        template = self._template
        if template is not None and template.is_usable:
            template.asked[slot.index] = time.monotonic() + FORK_TIME
            template.channel.send(FORK, slot=slot.index)
        elif template is not None or self._loader is not None:
            self._waiting.append(slot)
        elif self._may_fork or not self._is_counted:
            self._loader = slot
            slot.start(self._settings, self._link, of=self._count, is_loader=True)
            assert slot.channel is not None
            self._selector.register(slot.channel, selectors.EVENT_READ)
        else:
            slot.start(self._settings, self._link, of=self._count)

    @property
    def _count(self) -> int:
        """Return how many workers there are; 0 as long as the loader has not decided."""
        return self.slots[-1].index + 1 if self._is_counted else 0

    # ── what loader and template report ──

    def handle_messages(self) -> None:
        loader, template = self._loader, self._template
        if loader is not None and loader.channel is not None:
            for message in loader.channel.receive():
                if message["what"] == LOADED:
                    self._on_loaded(loader, message)
            if loader is self._loader and loader.channel.is_closed:
                self._close(loader.channel)  # it has ended, which a signal reports
                loader.channel = None
        if template is not None and not template.channel.is_closed:
            for message in template.channel.receive():
                self._on_answer(template, message)
            if template.channel.is_closed:
                self._close(template.channel)
                if template.pid is not None:  # what can't be asked is of no use
                    processes.kill_session(template.pid)

    def stop_watching(self) -> None:
        """Stop reading what loader and template report: the server ends."""
        for owner in (self._loader, self._template):
            channel = None if owner is None else owner.channel
            if channel is not None and not channel.is_closed:
                self._selector.unregister(channel)

    def forget_template(self, pid: int) -> None:
        if self._template is not None and self._template.pid == pid:
            self._template.pid = None

    def close(self) -> None:
        for owner in (*self.slots, self._template):
            if owner is not None and owner.channel is not None:
                owner.channel.close()

    def _close(self, channel: Channel) -> None:
        self._selector.unregister(channel)
        channel.close()

    def _on_loaded(self, loader: Slot, message: Message) -> None:
        """Continue as the loader has decided: by a template, or by further workers."""
        self._loader = None
        forks = self._may_fork = bool(message["forks"])
        self._settings = replace(self._settings, threads=int(message["threads"]))
        if not self._is_counted:
            self._is_counted = True
            self.slots = self.slots[: int(message["workers"])]
        # Further loads may fail, for lack of memory; only if they were asked for, that is the end.
        for slot in self.slots:
            slot.was_loaded |= forks or slot is loader
        assert loader.channel is not None
        if forks:
            self._template = Template(loader.pid, loader.channel)
            loader.pid = loader.channel = None
            self._start(loader)
        else:
            self._close(loader.channel)
            loader.channel = None
        self._start_waiting()

    def _start_waiting(self, at: float | None = None) -> None:
        """Start the slots that wait, now or at a time."""
        waiting, self._waiting = self._waiting, []
        for slot in waiting:
            slot.start_at = time.monotonic() if at is None else at

    def _on_answer(self, template: Template, message: Message) -> None:
        slot = next((each for each in self.slots if each.index == message["slot"]), None)
        template.asked.pop(int(message["slot"]), None)
        if slot is None:
            return
        if message["what"] == FORKED:
            slot.pid, slot.start_at = int(message["pid"]), None
        elif message["what"] == FAILED and slot.pid is None:
            self._retry(slot, f"worker can't be forked: {message['why']}")

    def _drop(self, template: Template) -> None:
        """Forget a template that has ended; what it has been asked for needs a loader."""
        self._template = None
        if not template.channel.is_closed:
            self._close(template.channel)
        self._waiting += [slot for slot in self.slots if slot.index in template.asked]
        if not self._waiting:
            return
        delay = self._template_restarts.died(time.monotonic())
        if delay is None:
            raise LoadFailedError("the process that workers are forked from ends again and again")
        self._start_waiting(time.monotonic() + delay)

    # ── the end of a process ──

    def on_end(self, pid: int, returncode: int) -> None:
        """Handle the end of a process that was reaped, if it is one of these."""
        template = self._template
        if template is not None and template.pid == pid:
            processes.kill_session(pid)
            template.pid, template.drop_at = None, time.monotonic() + LAST_WORDS
            how = processes.describe(returncode)
            log.say(f"the process that workers are forked from {how}; the workers continue")
            return
        slot = next((slot for slot in self.slots if slot.pid == pid), None)
        if slot is None:
            return
        processes.kill_session(pid)  # what it started ends with it
        is_loader = slot is self._loader
        if is_loader and slot.channel is not None:
            self._close(slot.channel)
            slot.channel = None
        slot.read_report()
        slot.pid = None
        how = processes.describe(returncode)
        if slot.was_loaded:
            self._retry(slot, f"worker {how}")
        elif self._settings.is_automatic and any(each.was_loaded for each in self.slots):
            self.slots.remove(slot)
            log.say(
                f"slot {slot.index}: the model can't be loaded once more: its worker {how}; "
                f"the server continues with {len(self.slots)} worker(s)"
            )
        else:
            raise LoadFailedError(
                f"the model can't be loaded: the worker of slot {slot.index} {how}"
            )
        if is_loader:
            self._loader = None
            self._start_waiting(slot.start_at)

    def _retry(self, slot: Slot, how: str) -> None:
        delay = slot.restarts.died(time.monotonic())
        if delay is None:
            raise LoadFailedError(f"slot {slot.index}: its {how}, again and again")
        log.say(f"slot {slot.index}: its {how}; a new one starts in {delay:g} s")
        slot.start_at = time.monotonic() + delay

    # ── the clock ──

    def step(self, now: float) -> float | None:
        """Do what is due; return the seconds until the next call, None if nothing is pending."""
        template = self._template
        if template is None:
            return None
        if template.pid is None:
            assert template.drop_at is not None
            # Its channel is open as long as a process is left that may report a new worker.
            if template.channel.is_closed or not template.asked or template.drop_at <= now:
                self._drop(template)
                return 0.0
            return template.drop_at - now
        if not template.channel.is_closed:
            template.channel.flush()
        overdue = min(template.asked.values(), default=None)
        if overdue is not None and overdue <= now:
            log.say("the process that workers are forked from is stuck and is ended")
            processes.kill_session(template.pid)
            template.asked = dict.fromkeys(template.asked, now + FORK_TIME)
            return FORK_TIME
        return None if overdue is None else overdue - now
