"""Limits on the requests and bytes in flight.

A request whose body is still arriving counts only towards the limits of arriving bodies, however
many slow clients there are: it enters the queue when its body is whole.
"""

from __future__ import annotations

from collections.abc import Callable

from sagemaker_byoc.serving.error_replies import Unavailable

ARRIVING = 1000
"""Bodies that may arrive at the same time."""
ARRIVING_SHARE = 2
"""Arriving bodies may hold this fraction (1/n) of the memory; the rest stays free for whole
ones."""


class Room:
    """Memory for bodies, in bytes; models on one machine share it."""

    __slots__ = ("arriving", "held", "leaving", "most", "senders")

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self.arriving = 0
        """The part of `held` that belongs to bodies still arriving."""
        self.leaving = 0
        """Bytes of replies that are being sent; `held` does not include them."""
        self.senders: dict[Permit, Callable[[], object]] = {}
        """How to cut off each sender, in the order in which they began."""

    def grow(self, before: int, after: int, *, is_arriving: bool) -> bool:
        """Return whether a body may grow, and count it. A single body may exceed the limit if it is
        alone."""
        if not _fits(self.held - before, after, self.most):
            return False
        if is_arriving:
            if not _fits(self.arriving - before, after, self.most // ARRIVING_SHARE):
                return False
            self.arriving += after - before
        self.held += after - before
        return True

    def send(self, permit: Permit, size: int, cut: Callable[[], object]) -> None:
        """Count a reply that is being sent; if there are too many bytes, cut off the slowest
        receivers."""
        self.leaving += size
        self.senders[permit] = cut
        others = (sender for sender in list(self.senders) if sender is not permit)
        while self.leaving > self.most:
            slowest = next(others, None)
            if slowest is None:
                return  # one that alone exceeds the limit
            self.senders[slowest]()
            slowest.release()


def _fits(others: int, size: int, most: int) -> bool:
    return others == 0 or others + size <= most


class Admission:
    """Counters of admitted requests; without a lock, since one event loop owns them."""

    def __init__(self, *, requests: int, room: Room, arriving: int = ARRIVING) -> None:
        self._most_requests = requests
        self._most_arriving = arriving
        self.room = room
        self.requests = 0
        self.arriving = 0

    def shrink(self, requests: int) -> None:
        """Admit that many requests less at the same time."""
        self._most_requests -= requests

    def check(self) -> None:
        """Raise Unavailable if no further request can be let in now."""
        if self.requests >= self._most_requests:
            raise Unavailable(f"{self.requests} requests are already running or waiting")

    def admit(self) -> Permit:
        """Let in a request whose body is whole."""
        self.check()
        self.requests += 1
        return Permit(self)

    def arrive(self) -> Permit:
        """Let the body of a request arrive; the permit must `enter` afterwards."""
        self.check()  # what is refused now need not send its body
        if self.arriving >= self._most_arriving:
            raise Unavailable(f"{self.arriving} bodies are already arriving")
        self.arriving += 1
        return Permit(self, is_arriving=True)


class Permit:
    """The right of one request to send its body or to wait; `release` may be called repeatedly."""

    __slots__ = ("_admission", "_bytes", "_is_arriving", "_is_leaving")

    def __init__(self, admission: Admission, *, is_arriving: bool = False) -> None:
        self._admission: Admission | None = admission
        self._bytes = 0
        self._is_arriving = is_arriving
        self._is_leaving = False

    def hold(self, size: int) -> None:
        """Count a body of `size` bytes; raise Unavailable if that is too much for now."""
        if self._admission is None or size <= self._bytes:
            return
        room = self._admission.room
        if not room.grow(self._bytes, size, is_arriving=self._is_arriving):
            raise Unavailable(f"Bodies in flight already hold {room.held} bytes")
        self._bytes = size

    def enter(self) -> None:
        """Move from the arriving to the waiting requests; raise Unavailable if the queue is
        full."""
        admission = self._admission
        if admission is None or not self._is_arriving:
            return
        admission.check()
        self._leave_arriving(admission)
        admission.requests += 1

    def leave(self, size: int, cut: Callable[[], object]) -> None:
        """Give up the place in the queue and the body; only a reply of `size` bytes remains to be
        sent.

        `cut` ends the sending if later replies need its memory.
        """
        admission = self._admission
        if admission is None or self._is_leaving:
            return
        self._is_leaving = True
        admission.requests -= 1
        admission.room.held -= self._bytes
        self._bytes = size
        admission.room.send(self, size, cut)

    def release(self) -> None:
        admission, self._admission = self._admission, None
        if admission is None:
            return
        if self._is_leaving:
            admission.room.leaving -= self._bytes
            del admission.room.senders[self]
            return
        if self._is_arriving:
            self._leave_arriving(admission)
        else:
            admission.requests -= 1
        admission.room.held -= self._bytes

    def _leave_arriving(self, admission: Admission) -> None:
        self._is_arriving = False
        admission.arriving -= 1
        admission.room.arriving -= self._bytes
