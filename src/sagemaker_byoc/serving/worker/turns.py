"""One turn of a worker: the requests of one packet, until each has its reply.

Requests that run one at a time may arrive together, and their replies may leave together. Neither
may wait for a request that takes long: a thread looks every few milliseconds, sends the replies
that are there, and gives the requests that have not begun back to the front.
"""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TypeAlias

from sagemaker_byoc.serving import log
from sagemaker_byoc.serving.link import (
    ClosedError,
    Ends,
    Frame,
    Kind,
    LinkError,
    requests_of,
)
from sagemaker_byoc.serving.worker.code import guard
from sagemaker_byoc.serving.worker.code.guard import Failure
from sagemaker_byoc.serving.worker.conversations import Exchange
from sagemaker_byoc.serving.worker.jobs import failed
from sagemaker_byoc.serving.worker.pipeline import Pipeline

HOLD = 0.005
"""Seconds that a reply may wait for those of the requests behind it."""
LOOK = 0.01
"""Seconds between two looks at the request that runs."""
IDLE_LOOKS = 20
"""Looks without a request after which the thread sleeps until the next packet of several."""


class Turn:
    """The requests that arrived together last.

    No handler's error gets here, but what handlers leave behind may raise: a timer's signal
    handler, a trace function.
    """

    def __init__(self, ends: Ends, pipeline: Pipeline) -> None:
        self._link = ends.link
        self._begun = ends.begun
        self._pipeline = pipeline
        talks = pipeline.handlers.get("bidirectional_fn")
        self._source: Source = Requests(ends)
        if talks is not None:
            self._source = Exchange(ends, talks, pipeline.model, pipeline.context_of)
        self._owed: dict[int, Frame] = {}
        self._waiting: deque[Frame] = deque()
        """Requests of the packet that have not begun; the watch may take them."""
        self._replies: deque[Frame] = deque()
        self._held_since = 0.0
        self._watch = Watch(self)
        self._is_reading = False
        self.count = 0
        """Requests begun so far, in packets of several."""
        self.is_busy = False
        """Whether the requests of such a packet are running."""
        self.lost: LinkError | None = None

    def take(self) -> None:
        """Wait for requests and answer them; `lost` is set if the front is gone."""
        try:
            self._is_reading = False
            self._owed.clear()
            self._source.wait()  # what is raised meanwhile takes no request with it
            self._is_reading = True
            requests = self._source.receive()
            for frame in requests:
                self._owed[frame.id] = frame
            self._is_reading = False
            if len(requests) > 1 and self._pipeline.batch == 1 and self._watch.is_awake():
                self._run_singly(requests)
            elif requests:
                self._begun.set(requests[-1].id)
                for replies in self._pipeline.answer(requests, self._source.has_come):
                    self._send(replies)
        except LinkError as error:
            self.lost = error

    def _run_singly(self, requests: list[Frame]) -> None:
        self._waiting.extend(requests)
        self.is_busy = True
        self._watch.wake()
        try:
            while (request := _first(self._waiting)) is not None:
                self.count += 1
                self._begun.set(request.id)
                for replies in self._pipeline.answer([request], self._source.has_come):
                    self._hold(replies)
        finally:
            self.is_busy = False
        self.send_replies()

    def _hold(self, replies: list[Frame]) -> None:
        """Keep replies for the next packet; send at once what is not a whole reply."""
        if replies[0].kind is not Kind.REPLY:
            if replies[0].kind is Kind.PART:
                self.give_back()  # while a client reads a stream slowly, the front reads no RETURN
            self.send_replies()  # the front takes a packet that begins with a reply for replies
            self._send(replies)
            return
        now = time.monotonic()
        if not self._replies:
            self._held_since = now
        self._replies.extend(replies)
        if now - self._held_since >= HOLD:
            self.send_replies()

    def send_replies(self) -> None:
        """Send the replies that are held; the watch may call this too."""
        replies = []
        while (reply := _first(self._replies)) is not None:
            replies.append(reply)
        if replies:
            self._send(replies)

    def give_back(self) -> None:
        """Return the requests that have not begun to the front."""
        frames = []
        while (frame := _first(self._waiting)) is not None:
            frames.append(frame)
        for frame in frames:
            self._owed.pop(frame.id, None)
        if frames:
            idents = [frame.id for frame in frames]
            self._link.send(Frame(Kind.RETURN, 0, {"ids": idents}), wait=True)

    def fail(self, failure: Failure) -> None:
        """Answer what `take` has left open; raise LinkError if that cannot be determined."""
        log.say(f"raised outside of a handler's call: {failure.explained}")
        self.send_replies()
        self.give_back()
        for request in list(self._owed.values()):
            self._send([failed(request, failure)])
        if self._is_reading:
            raise LinkError("requests were lost")  # with the link they end for the front, too

    def _send(self, replies: list[Frame]) -> None:
        """Send frames in one packet, or in several if they do not fit into one."""
        try:
            self._link.send(*replies, wait=True)
        except ClosedError:
            raise
        except (LinkError, OSError) as error:
            if len(replies) == 1:
                failure = guard.failure_of(error)
                log.say(f"a reply can't be sent: {failure.message}")
                replies = [failed(replies[0], failure)]
                self._link.send(*replies, wait=True)
            else:
                middle = len(replies) // 2
                self._send(replies[:middle])
                self._send(replies[middle:])
        for reply in replies:
            if reply.kind is Kind.REPLY:
                self._owed.pop(reply.id, None)


def _first(frames: deque[Frame]) -> Frame | None:
    """Remove and return the first; two threads never get the same one."""
    try:
        return frames.popleft()
    except IndexError:
        return None


class Watch:
    """Looks after packets of several requests, on its own thread, which sleeps while there are
    none."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None

    def is_awake(self) -> bool:
        """Start the thread if need be; return whether it runs."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="watch", daemon=True)
            if guard.attempt(thread.start) is not None:  # a handler may have used up all threads
                return False
            self._thread = thread
        return self._thread.is_alive()

    def wake(self) -> None:
        if not self._wanted.is_set():
            self._wanted.set()

    def _run(self) -> None:
        failure = guard.attempt(self._look_on)
        if failure is not None:
            log.say(f"long requests are no longer watched: {failure.explained}")

    def _look_on(self) -> None:
        with suppress(LinkError):  # the front is gone: the main thread finds that out, too
            while True:
                self._wanted.wait()
                self._look_until_idle()
                self._wanted.clear()
                if self._turn.is_busy:  # it may have wanted the thread just before
                    self._wanted.set()

    def _look_until_idle(self) -> None:
        turn = self._turn
        idle, count = 0, -1
        while idle < IDLE_LOOKS:
            time.sleep(LOOK)
            idle = 0 if turn.is_busy else idle + 1
            if turn.is_busy and turn.count == count:
                turn.send_replies()
                turn.give_back()
            count = turn.count


class Requests:
    """Requests from the front, read by the thread that answers them. On the link the front only
    sends that a stream should end."""

    def __init__(self, ends: Ends) -> None:
        self._link = link = ends.link
        self._inbox = inbox = ends.inbox
        self._cancels = select.poll()
        self._cancels.register(link.fileno(), select.POLLIN)
        self._both = select.poll()
        self._all = select.poll()  # one call for all questions: there is one for each request
        for poll in (self._both, self._all):
            poll.register(inbox.fileno(), select.POLLIN)
            poll.register(link.fileno(), select.POLLIN)
        log.watch(self._all)
        self._request = [(inbox.fileno(), select.POLLIN)]

    def wait(self) -> None:
        """Wait until there is something to receive."""
        found = self._all.poll()
        while found != self._request:
            log.restore()  # a handler has closed one of the standard streams
            found = self._both.poll()
            if self._link.fileno() in dict(found):
                self._cancelled()  # a stream that has ended already, or the front is gone

    def receive(self) -> list[Frame]:
        """Return the next requests; none if the front has just taken them back."""
        try:
            return requests_of(self._inbox.receive(wait=False))
        except BlockingIOError:
            return []

    def has_come(self, ident: int) -> bool:
        return bool(self._cancels.poll(0)) and ident in self._cancelled()

    def _cancelled(self) -> list[int]:
        frames = self._link.receive()
        if any(frame.kind is not Kind.CANCEL for frame in frames):
            raise LinkError("the front sent something else than CANCEL")
        return [frame.id for frame in frames]


Source: TypeAlias = "Requests | Exchange"
