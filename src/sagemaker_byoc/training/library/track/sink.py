"""Where rows of metrics go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class Row(NamedTuple):
    step: int
    time: float
    """Seconds since the epoch."""
    values: Mapping[str, float]


class Sink(Protocol):
    def write(self, rows: Sequence[Row]) -> None:
        """Called on the training's thread; must not wait. OSError for what can't be written."""

    def close(self, seconds: float) -> None:
        """Bring out what is kept, within about this time."""
