"""Two-way streams inside the worker: each runs `bidirectional_fn` in its own thread.

The thread that reads the link never runs user code: it passes messages to conversations, so that
neither these nor requests wait for the other.
"""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Self

from sagemaker_byoc.serving import log
from sagemaker_byoc.serving.link import (
    Ends,
    Frame,
    Kind,
    Link,
    LinkError,
    Window,
    body_of,
    requests_of,
)
from sagemaker_byoc.serving.worker.code import guard
from sagemaker_byoc.serving.worker.code.guard import Failure
from sagemaker_byoc.serving.worker.code.handlers import Handler
from sagemaker_byoc.serving.worker.formats import codecs, values
from sagemaker_byoc.serving.worker.jobs import exact_bytes, name_of
from sagemaker_byoc.serving.worker.request_context import Context


class GoneError(Exception):
    """The client or the front is gone; raised when the handler's next item is to be sent."""


class Messages:
    """The messages of the client: iterate, or `poll`. Text is str, all else bytes."""

    def __init__(self, taken: Callable[[], None]) -> None:
        self._taken = taken
        self._queue: deque[str | bytes] = deque()
        self._change = threading.Condition()
        self._is_over = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str | bytes:
        message = self.poll(None)
        if message is None:
            raise StopIteration
        return message

    @property
    def is_over(self) -> bool:
        """Return whether no further message will come."""
        return self._is_over and not self._queue

    def poll(self, seconds: float | None = 0.0) -> str | bytes | None:
        """Return the next message; None if none comes in time, or none will come (`is_over`)."""
        with self._change:
            self._change.wait_for(lambda: self._queue or self._is_over, seconds)
            if not self._queue:
                return None
            message = self._queue.popleft()
        self._taken()
        return message

    def put(self, message: str | bytes) -> None:
        with self._change:
            self._queue.append(message)
            self._change.notify_all()

    def end(self, *, forget: bool = False) -> None:
        with self._change:
            self._is_over = True
            if forget:
                self._queue.clear()
            self._change.notify_all()


class Conversation:
    """One client's conversation; its thread ends with the handler."""

    def __init__(self, ident: int, link: Link, context: Context, name: str) -> None:
        self.id = ident
        self.name = name
        self._context = context
        self._link = link
        self.messages = Messages(self._taken)
        self._window = Window()
        self._room = threading.Condition()
        self._is_cut = False
        self._result: object = None
        self._end: dict[str, object] = {}
        """Metadata of the message that reports the end to the front."""

    def run(self, handler: Handler, model: object) -> None:
        failures = [guard.attempt(self._carry, handler, model)]
        failures.append(guard.attempt(guard.close, self._result))
        for failure in failures:
            if failure is not None:
                self.fail(failure)
        self.finish()

    def finish(self) -> None:
        self._send_frame(Frame(Kind.FINISH, self.id, self._end))

    def fail(self, failure: Failure) -> None:
        log.say(f"conversation {self.name} failed: {failure.explained}")
        self._end.setdefault("error", failure.message)

    def _carry(self, handler: Handler, model: object) -> None:
        self._result = handler(self.messages, model, context=self._context)
        try:
            for item in _items(self._result):
                self._send(item)
        except GoneError:
            self._end["gone"] = True

    def _send(self, item: object) -> None:
        is_text = not isinstance(item, bytes | bytearray | memoryview)
        data = _encoded(item)
        with self._room:
            self._room.wait_for(lambda: self._window.is_open or self._is_cut)
            if self._is_cut:
                raise GoneError
            self._window.sent(len(data))
        self._send_frame(
            Frame(Kind.MESSAGE, self.id, {"text": 1} if is_text else {}, body_of(data))
        )

    def _taken(self) -> None:
        self._send_frame(Frame(Kind.TAKEN, self.id))

    def _send_frame(self, frame: Frame) -> None:
        guard.check()  # user code may call this, whatever it has done to the process
        try:
            self._link.send(frame, wait=True)
        except LinkError:
            self.cut()
            self._link.shut()  # whatever has happened to it, the front must know

    # ── from the reading thread ──

    def receive(self, frame: Frame) -> None:
        if frame.kind is Kind.MESSAGE:
            data = bytes(frame.body.view()[:])
            self.messages.put(data.decode() if frame.meta.get("text") else data)
        elif frame.kind is Kind.TAKEN:
            with self._room:
                self._window.taken()
                self._room.notify_all()
        elif frame.kind is Kind.END:
            self.messages.end()
        else:
            self.cut()

    def cut(self) -> None:
        """End the conversation: the client has left."""
        self.messages.end(forget=True)
        with self._room:
            self._is_cut = True
            self._room.notify_all()


class Exchange:
    """Reads the link on its own thread, for workers with a `bidirectional_fn`: requests are read by
    the thread that answers them."""

    def __init__(
        self,
        ends: Ends,
        handler: Handler,
        model: object,
        context_of: Callable[[Frame], Context],
    ) -> None:
        self._link = ends.link
        self._inbox = ends.inbox
        self._handler = handler
        self._model = model
        self._context_of = context_of
        self._open: dict[int, Conversation] = {}
        self._cancelled: set[int] = set()
        self._poll = select.poll()
        self._poll.register(ends.inbox.fileno(), select.POLLIN)
        threading.Thread(target=self._read, name="link", daemon=True).start()

    def wait(self) -> None:
        """Wait until there is something to receive."""
        log.restore()
        self._poll.poll()

    def receive(self) -> list[Frame]:
        """Return the next requests; raise ClosedError if the front is gone."""
        self._cancelled.clear()
        try:
            return requests_of(self._inbox.receive(wait=False))
        except BlockingIOError:
            return []

    def has_come(self, ident: int) -> bool:
        """Return whether the client of a streamed reply has left."""
        return ident in self._cancelled

    def _read(self) -> None:
        failure = guard.attempt(self._read_all)
        if failure is not None:
            log.say(f"the link is no longer read: {failure.explained}")
        for conversation in list(self._open.values()):
            conversation.cut()
        self._link.shut()  # then the front closes its end for requests: the main thread wakes

    def _read_all(self) -> None:
        with suppress(LinkError):
            while True:
                for frame in self._link.receive():
                    self._handle(frame)

    def _handle(self, frame: Frame) -> None:
        if frame.kind is Kind.OPEN:
            self._begin(frame)
        elif frame.id in self._open:
            self._open[frame.id].receive(frame)
        elif frame.kind is Kind.CANCEL:
            self._cancelled.add(frame.id)

    def _begin(self, frame: Frame) -> None:
        name = name_of(frame.meta)
        context = self._context_of(frame)
        conversation = Conversation(frame.id, self._link, context, name)
        self._open[frame.id] = conversation
        thread = threading.Thread(target=self._run, args=[conversation], name=name, daemon=True)
        failure = guard.attempt(thread.start)  # a handler may have used up all threads
        if failure is not None:
            del self._open[frame.id]
            conversation.fail(failure)
            conversation.finish()

    def _run(self, conversation: Conversation) -> None:
        began = time.monotonic()
        try:
            conversation.run(self._handler, self._model)
        finally:
            self._open.pop(conversation.id, None)
            took = time.monotonic() - began
            log.say(f"conversation {conversation.name}: ended after {took:.1f} s")


def _items(result: object) -> Iterator[object]:
    """Return the handler's items; a handler that sends nothing may return None."""
    if isinstance(result, Iterator):
        return result
    if result is None:
        return iter(())
    raise TypeError(f"bidirectional_fn returned {type(result).__name__}; it should yield")


def _encoded(item: object) -> bytes:
    if isinstance(item, str):
        return str.encode(item)  # whatever a subclass does
    if isinstance(item, bytes | bytearray | memoryview):
        return exact_bytes(item)
    return codecs.encode_json(values.plain(item))
