"""Deliveries to targets: in order per target, again after a failure, and each in a lane.

Undelivered events are counted and kept as lines of STATE/events/undelivered.jsonl. The log names
each, but only the first of those that find the queue of a target full.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sagemaker_byoc.region.core.event_bus import LineFile
from sagemaker_byoc.region.core.threads import Threads

LOG = logging.getLogger(__name__)

UNDELIVERED_FILE = "events/undelivered.jsonl"
MOST_WAITING = 1000
"""Events that wait for one target, with those that are tried again; further ones are dropped."""
MOST_BYTES = 16 << 20
"""Size of what waits for one target."""
MOST_BYTES_OF_ALL = 128 << 20
"""Size of what waits. Beyond it, a target for which nothing waits may still get an event."""
_MOST_PACES = 256
"""Times of destinations that are remembered before those in the past are forgotten."""
_THREADS = 64
"""Deliveries at the same time: one per target. If so many targets don't answer, others wait."""
_LONGEST_PAUSE = 60.0
_CLOSING_SECONDS = 5.0


class DeliveryError(Exception):
    """A target did not take an event. `is_final` if it would not take it another time either."""

    def __init__(self, text: str, *, is_final: bool = False) -> None:
        self.is_final = is_final
        super().__init__(text)


@dataclass(slots=True, kw_only=True)
class Delivery:
    target: str
    """Names the target, and the rule: those of one target are made one after the other."""
    text: str
    """What the target gets."""
    send: Callable[[], None]
    """Blocks for a bounded time; raises DeliveryError."""
    most_retries: int
    most_seconds: int
    """Age after which it is not tried again."""
    destination: str = ""
    """What the spacing is for: several targets may be one destination."""
    spacing: float = 0.0
    """Seconds between two calls of the destination."""
    began: float = field(default_factory=time.monotonic)
    tries: int = 0

    def pause(self) -> float | None:
        """Return the seconds until it is tried again; None if it is not."""
        seconds = min(2.0 ** min(self.tries - 1, 10), _LONGEST_PAUSE)
        age = time.monotonic() - self.began + seconds
        return None if self.tries > self.most_retries or age > self.most_seconds else seconds


@dataclass(slots=True)
class _Lane:
    """The deliveries to one target."""

    waiting: deque[Delivery] = field(default_factory=deque)
    held: int = 0
    """Those that wait, that will be tried again, and the one that is sent."""
    size: int = 0
    dropped: int = 0
    task: asyncio.Task[None] | None = None


class Deliveries:
    """Everything but `put` and `close` is on the event loop."""

    def __init__(self, state: Path) -> None:
        self.undelivered = 0
        """Events that no target got, since the start."""
        self._threads = Threads("deliveries", _THREADS)
        self._lock = threading.Lock()
        self._arrived: list[Delivery] = []
        self._lanes: dict[str, _Lane] = {}
        self._retries: dict[int, tuple[asyncio.TimerHandle, Delivery]] = {}
        self._size = 0
        self._next_calls: dict[str, float] = {}
        """By destination: when the loop's clock allows the next call."""
        self._file = LineFile(state / UNDELIVERED_FILE)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()

    def put(self, delivery: Delivery) -> None:
        """Queue a delivery; callable from any thread."""
        with self._lock:
            is_first = not self._arrived
            self._arrived.append(delivery)
        if is_first and self._loop is not None:  # the loop is woken once for many
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._take)

    def close(self) -> None:
        """Make what waits, for at most 5 s; call it in a thread while the loop runs. Idempotent."""
        if self._loop is not None and not self._is_closed:
            asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result()
        self._threads.abandon()

    async def _finish(self) -> None:
        self._is_closed = True
        for handle, delivery in self._retries.values():
            handle.cancel()
            self._give_up(delivery, "the region ended before the next try")
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_CLOSING_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for lane in self._lanes.values():
            for delivery in lane.waiting:
                self._give_up(delivery, "the region ended")
        if self.undelivered:
            LOG.warning("%d events were not delivered to targets of rules", self.undelivered)
        self._file.close()

    def _take(self) -> None:
        with self._lock:
            arrived, self._arrived = self._arrived, []
        for delivery in arrived:
            self._add(delivery)

    def _add(self, delivery: Delivery) -> None:
        lane = self._lanes.setdefault(delivery.target, _Lane())
        reason = self._full(lane, len(delivery.text))
        if reason is not None:
            lane.dropped += 1
            if lane.dropped == 1:
                LOG.warning("%s: %s, and new ones are dropped", delivery.target, reason)
            self._keep(delivery, reason)
            return
        self._hold(lane, delivery, 1)
        self._queue(lane, delivery)

    def _full(self, lane: _Lane, size: int) -> str | None:
        """Return why nothing of that size may wait for a target; None if it may."""
        if lane.held > MOST_WAITING:  # one of them is sent
            return f"{MOST_WAITING} events wait for it"
        if lane.held and lane.size + size > MOST_BYTES:
            return f"events of {lane.size} bytes wait for it"
        if lane.held and self._size + size > MOST_BYTES_OF_ALL:
            return f"events of {self._size} bytes wait for all targets"
        return None

    def _hold(self, lane: _Lane, delivery: Delivery, count: int) -> None:
        """Count a delivery that came (1) or ended (-1)."""
        lane.held += count
        lane.size += count * len(delivery.text)
        self._size += count * len(delivery.text)

    def _queue(self, lane: _Lane, delivery: Delivery) -> None:
        lane.waiting.append(delivery)
        if lane.task is None:
            lane.task = asyncio.get_running_loop().create_task(self._run(delivery.target, lane))

    async def _run(self, target: str, lane: _Lane) -> None:
        while lane.waiting:
            seconds = self._reserve(lane.waiting[0])
            if seconds:  # before it leaves the queue, which `_finish` gives up
                await asyncio.sleep(seconds)
            delivery = lane.waiting.popleft()
            delivery.tries += 1
            try:
                await self._threads.run(delivery.send)
            except asyncio.CancelledError:
                self._give_up(delivery, "the region ended while it was sent")
                raise
            except DeliveryError as error:
                if self._will_retry(lane, delivery, error):
                    continue
            except Exception as error:
                LOG.exception("%s: the delivery failed", delivery.target)
                self._give_up(delivery, repr(error))
            self._hold(lane, delivery, -1)
        lane.task = None
        if not lane.held:
            self._lanes.pop(target, None)

    def _reserve(self, delivery: Delivery) -> float:
        """Return the seconds until the destination may be called, and take that time."""
        if not delivery.spacing:
            return 0.0
        now = asyncio.get_running_loop().time()
        if len(self._next_calls) > _MOST_PACES:
            self._next_calls = {key: at for key, at in self._next_calls.items() if at > now}
        at = max(now, self._next_calls.get(delivery.destination, now))
        self._next_calls[delivery.destination] = at + delivery.spacing
        return at - now

    def _will_retry(self, lane: _Lane, delivery: Delivery, error: DeliveryError) -> bool:
        """Return whether a failed delivery is tried again; else it is given up."""
        pause = None if error.is_final or self._is_closed else delivery.pause()
        if pause is None:
            self._give_up(delivery, str(error))
            return False
        handle = asyncio.get_running_loop().call_later(pause, self._retry, lane, delivery)
        self._retries[id(delivery)] = (handle, delivery)
        return True

    def _retry(self, lane: _Lane, delivery: Delivery) -> None:
        del self._retries[id(delivery)]
        self._queue(lane, delivery)

    def _give_up(self, delivery: Delivery, reason: str) -> None:
        times = "once" if delivery.tries == 1 else f"{delivery.tries} times"
        LOG.warning("%s did not get an event, tried %s: %s", delivery.target, times, reason)
        self._keep(delivery, reason)

    def _keep(self, delivery: Delivery, reason: str) -> None:
        self.undelivered += 1
        line = {"target": delivery.target, "reason": reason, "input": delivery.text}
        self._file.append(json.dumps(line).encode() + b"\n")
