"""Signals as bytes on a pipe: the handlers do nothing, the loop reads."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from types import FrameType
from typing import Self


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """A handler must exist for the wake-up pipe to be written."""


class SignalPipe:
    """Registers for `numbers` while it is open; select on `fileno`, then `read`."""

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._numbers = tuple(numbers)

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._former_descriptor = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._former = [(number, signal.signal(number, _ignore)) for number in self._numbers]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former:
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._former_descriptor)
        os.close(self._reader)
        os.close(self._writer)

    def fileno(self) -> int:
        return self._reader

    def read(self) -> list[int]:
        """Numbers since the last call; empty where there were none."""
        try:
            return list(os.read(self._reader, 512))
        except BlockingIOError:
            return []
