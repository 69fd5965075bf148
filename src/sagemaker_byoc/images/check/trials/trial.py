"""One trial after another, each through one place: its bound is said before, its failure is kept.

No failure of a trial ends the check: what else was found is worth as much as before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from sagemaker_byoc.contract.errors import ByocError, MachineError

T = TypeVar("T")


class Deadline:
    """A number of seconds from now."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds, never below 0."""
        return max(0.0, self._end - time.monotonic())


@dataclass(slots=True)
class Trials:
    """`unjudged` gets one sentence for each trial that failed, `notes` for each that was left out.

    A failed trial says nothing about the image.
    """

    say: Callable[[str], None]
    unjudged: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _engine: str = ""
    """Why the engine is not asked again."""

    def tried(self, name: str, seconds: float, trial: Callable[[], T], more: str = "") -> T | None:
        """Say the bound and run the trial, as `kept` does, unless the engine is gone."""
        if self._engine:
            self.unjudged.append(f"{name}: {self._engine}")
            return None
        self.say(f"{name}: at most {seconds:.0f} s{more}")
        return self.kept(name, trial)

    @property
    def has_engine(self) -> bool:
        return not self._engine

    def kept(self, name: str, action: Callable[[], T]) -> T | None:
        """Return what the action returns; None if it raised, and then `unjudged` has the cause."""
        try:
            return action()
        except Exception as error:  # noqa: BLE001 - whatever it is, the report comes
            self.unjudged.append(f"{name}: {cause(error)}")
            if isinstance(error, MachineError):
                self._engine = cause(error)
            return None


def cause(error: Exception) -> str:
    """Return one line about it; errors of ours say themselves what is wrong."""
    text = error.sentence if isinstance(error, ByocError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())
