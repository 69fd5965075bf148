"""A rule, what it is shown, and the finding that it yields.

A rule is a dataclass: its fields are its parameters, which are read from text by their types. It
keeps what it needs of earlier steps, and yields a finding each time that it fires.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import ClassVar, TextIO, TypeAlias

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Finding:
    rule: str
    step: int
    tensor: str
    """A parameter's name, gradient/<name> for its gradient, a layer, `loss` or `gpu0`."""
    value: float
    threshold: float
    verdict: str
    """What was seen, in words that name both numbers."""
    advice: str
    time: float = 0.0
    """Seconds since the epoch."""

    def sentence(self) -> str:
        """Return the text for the log and the failure reason."""
        return f"{self.rule} at step {self.step}: {self.tensor}: {self.verdict}. {self.advice}"

    def line(self) -> str:
        """Return JSON, with null for a number that is not finite."""
        document = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }
        return json.dumps(document, ensure_ascii=False)


Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

GRADIENTS, WEIGHTS, LOSSES = "gradients", "weights", "losses"
BIAS_GRADIENTS = "gradients/biases"
TRAIN, EVAL = "train", "eval"


@dataclass(slots=True)  # not frozen: hundreds are made at a step that is looked at
class Stats:
    """One tensor at one step."""

    name: str
    collection: str
    mean_abs: float = 0.0
    max_abs: float | None = None
    """None if no rule needs it."""
    has_nan: bool = False
    has_inf: bool = False
    zeros: float = 0.0
    """Percent of its elements."""
    values: Floats | None = None
    """All elements, or some at equal distances; only if a rule needs them."""
    is_whole: bool = False
    """Whether `values` holds all elements."""
    is_resting: bool = False
    """Whether it is a weight whose scheduled learning rate is zero now, or almost."""

    @classmethod
    def of(cls, name: str, collection: str, values: npt.ArrayLike) -> Stats:
        """Return the numbers of a whole tensor."""
        array = np.asarray(values, dtype=np.float64).reshape(-1)
        return cls(
            name=name,
            collection=collection,
            mean_abs=float(np.abs(array).mean()),
            max_abs=float(np.abs(array).max()),
            has_nan=bool(np.isnan(array).any()),
            has_inf=bool(np.isinf(array).any()),
            zeros=float((array == 0).mean() * 100),
            values=array,
            is_whole=True,
        )


@dataclass(frozen=True, slots=True)
class Loss:
    """One loss; while a training runs, the mean over some steps."""

    step: int
    value: float
    mode: str = TRAIN
    error: float = 0.0
    """The standard error of the mean; 0 for a single value."""
    name: str = "loss"


@dataclass(frozen=True, slots=True)
class Activation:
    """One activation layer in one forward pass."""

    layer: str
    kind: str
    """relu, tanh or sigmoid."""
    active: float
    """Percent of its units that were in range for at least `inactivity` percent of their inputs."""
    input_variance: float


@dataclass(frozen=True, slots=True)
class Reading:
    """The system at one moment, in percent."""

    time: float
    cpus: Sequence[float] = ()
    io_wait: Sequence[float] = ()
    gpus: Sequence[float] = ()
    gpu_memory: Sequence[float] = ()
    memory: float = 0.0
    received: float = 0.0
    sent: float = 0.0
    """Bytes per second, as of `received`."""


@dataclass
class Rule:
    """A rule. Each method is shown one kind of data; most rules implement one method."""

    advice: ClassVar[str] = ""
    judged: int = field(default=0, init=False, repr=False)
    """How often it had enough to compare."""
    stops_after: ClassVar[int] = 1
    """Consecutive checks in which it must find a tensor before a training may be stopped."""
    repeats: dict[str, int] = field(default_factory=dict, init=False, repr=False)
    """The number of consecutive checks in which it has found each tensor."""

    @property
    def name(self) -> str:
        return type(self).__name__

    @property
    def needs(self) -> str:
        """What its parameters lack, if anything; then it is not used."""
        return ""

    def count(self, found: Sequence[Finding]) -> None:
        """Remember what one check has found."""
        names = {one.tensor for one in found}
        self.repeats = {name: self.repeats.get(name, 0) + 1 for name in names}

    def lasts(self, tensor: str) -> bool:
        """Return whether a finding lasts, so that a training may be stopped.

        Healthy trainings have findings that pass: layers that start at zero, experts without input.
        """
        return self.repeats.get(tensor, 0) >= self.stops_after

    def sees(self, reading: Reading) -> bool:  # noqa: ARG002
        """Return whether a reading holds what the rule needs."""
        return True

    def tensors(self, step: int, found: Sequence[Stats]) -> Iterable[Finding]:  # noqa: ARG002
        return ()

    def updates(self, step: int, ratios: Mapping[str, float]) -> Iterable[Finding]:  # noqa: ARG002
        return ()

    def loss(self, seen: Loss) -> Iterable[Finding]:  # noqa: ARG002
        return ()

    def activations(self, step: int, found: Sequence[Activation]) -> Iterable[Finding]:  # noqa: ARG002
        return ()

    def predictions(self, step: int, labels: Integers, predicted: Integers) -> Iterable[Finding]:  # noqa: ARG002
        return ()

    def reading(self, step: int, reading: Reading) -> Iterable[Finding]:  # noqa: ARG002
        return ()

    def times(self, step: int, seconds: Sequence[float]) -> Iterable[Finding]:  # noqa: ARG002
        """The durations of the steps since the last call."""
        return ()

    def finding(
        self, step: int, tensor: str, seen: float, threshold: float, verdict: str
    ) -> Finding:
        return Finding(self.name, step, tensor, float(seen), float(threshold), verdict, self.advice)


def say_to_log(text: str, stream: TextIO | None = None) -> None:
    """Write a line, to stderr by default, at once: lines of several ranks must not be mixed."""
    with suppress(OSError, ValueError, AttributeError):  # closed, or never there
        stream = stream or sys.stderr
        stream.write(f"byoc watch: {text}\n")
        stream.flush()
