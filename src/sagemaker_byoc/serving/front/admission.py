"""How much may be under way at once, in requests and in bytes; asked before a body is read."""

from __future__ import annotations

from sagemaker_byoc.serving.errors import Unavailable


class Room:
    """Bytes of bodies; models that share a memory share it."""

    __slots__ = ("held", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0

    def fits(self, size: int) -> bool:
        """A body that alone exceeds the limit is let in when it is alone."""
        return self.held == 0 or self.held + size <= self.most


class Admission:
    """Counts what was let in; no lock, since one event loop owns it."""

    def __init__(self, *, requests: int, room: Room) -> None:
        self._most_requests = requests
        self.room = room
        self.requests = 0

    def admit(self) -> Permit:
        if self.requests >= self._most_requests:
            raise Unavailable(f"{self.requests} requests are under way or wait already")
        self.requests += 1
        return Permit(self)


class Permit:
    """The right of one request to wait; released once, however often it is asked."""

    __slots__ = ("_admission", "_bytes")

    def __init__(self, admission: Admission) -> None:
        self._admission: Admission | None = admission
        self._bytes = 0

    def hold(self, size: int) -> None:
        """The body has, or will have, `size` bytes; Unavailable if that is too much for now."""
        admission = self._admission
        if admission is None or size <= self._bytes:
            return
        room = admission.room
        room.held -= self._bytes
        fits = room.fits(size)
        if fits:
            self._bytes = size
        room.held += self._bytes
        if not fits:
            raise Unavailable(f"The bodies under way hold {room.held} bytes already")

    def release(self) -> None:
        admission, self._admission = self._admission, None
        if admission is not None:
            admission.requests -= 1
            admission.room.held -= self._bytes
