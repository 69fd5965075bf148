"""What the page draws, in bounded memory: when a series is full, every other point goes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sagemaker_byoc.training.library.watch.rules.base import Loss, Reading

T = TypeVar("T")
POINTS = 512


class Series(Generic[T]):
    """At most `POINTS` of everything that was added, about evenly apart."""

    def __init__(self) -> None:
        self.points: list[T] = []
        self._apart = 1
        self._count = 0

    def add(self, point: T) -> None:
        if self._count % self._apart == 0:
            self.points.append(point)
            if len(self.points) >= POINTS:
                del self.points[1::2]
                self._apart *= 2
        self._count += 1


@dataclass
class History:
    losses: dict[str, Series[tuple[int, float]]] = field(default_factory=dict)
    """Losses by mode; those of further optimizers have their numbers."""
    gradients: dict[int, Series[tuple[int, dict[str, float]]]] = field(
        default_factory=lambda: defaultdict(Series)
    )
    """Mean absolute value of each gradient, by the number of the optimizer."""
    updates: dict[int, Series[tuple[int, dict[str, float]]]] = field(
        default_factory=lambda: defaultdict(Series)
    )
    readings: Series[Reading] = field(default_factory=Series)

    def loss(self, seen: Loss) -> None:
        name = seen.mode if seen.name == "loss" else f"{seen.mode}, {seen.name}"
        self.losses.setdefault(name, Series()).add((seen.step, seen.value))
