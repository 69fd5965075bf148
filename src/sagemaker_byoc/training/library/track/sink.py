"""Where rows of metrics go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Row:
    step: int
    time: float
    """Seconds since the epoch."""
    values: Mapping[str, float]


class Sink(Protocol):
    def write(self, rows: Sequence[Row]) -> None:
        """Called on the training's thread; must neither wait nor raise."""

    def close(self, seconds: float) -> None:
        """Bring out what is kept, within about this time."""
