"""How much may be under way at once, in requests and in bytes; asked before a body is read."""

from __future__ import annotations

from sagemaker_byoc.serving.errors import Unavailable


class Admission:
    """Counts what was let in; no lock, since one event loop owns it."""

    def __init__(self, *, requests: int, bytes_: int) -> None:
        self._most_requests = requests
        self._most_bytes = bytes_
        self.requests = 0
        self.bytes = 0

    def admit(self) -> Permit:
        if self.requests >= self._most_requests:
            raise Unavailable(f"{self.requests} requests are under way or wait already")
        self.requests += 1
        return Permit(self)

    def fits(self, size: int) -> bool:
        """A body that alone exceeds the limit is let in when it is alone."""
        return self.bytes == 0 or self.bytes + size <= self._most_bytes


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
        admission.bytes -= self._bytes
        fits = admission.fits(size)
        if fits:
            self._bytes = size
        admission.bytes += self._bytes
        if not fits:
            raise Unavailable(f"The bodies under way hold {admission.bytes} bytes already")

    def release(self) -> None:
        admission, self._admission = self._admission, None
        if admission is not None:
            admission.requests -= 1
            admission.bytes -= self._bytes
