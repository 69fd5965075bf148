"""How much one side of a conversation may send before the other has taken it.

Both sides of the link keep one for what they send, so that neither a slow client nor a slow handler
makes a queue grow, and no conversation holds up another. Standard library only.
"""

from __future__ import annotations

from collections import deque

MESSAGES = 8
BYTES = 2**20
"""Once so many are under way the next one waits; a single message may be larger."""


class Window:
    """What is under way, in order."""

    def __init__(self) -> None:
        self._sizes: deque[int] = deque()
        self._sum = 0

    @property
    def is_open(self) -> bool:
        return len(self._sizes) < MESSAGES and self._sum < BYTES

    def sent(self, size: int) -> None:
        self._sizes.append(size)
        self._sum += size

    def taken(self) -> None:
        """The peer has handed on the oldest."""
        if self._sizes:
            self._sum -= self._sizes.popleft()
