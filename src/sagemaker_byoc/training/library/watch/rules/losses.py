"""Rules over losses, and over the labels and predictions that a program passes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from sagemaker_byoc.training.library.watch.rules.base import (
    EVAL,
    TRAIN,
    Finding,
    Integers,
    Loss,
    Rule,
    say_to_log,
)

KEPT = 1000
"""Losses that a rule keeps at most."""
CHANCE = 2.0
"""Standard errors within which a difference may be chance."""
DOUBTS = 3
CERTAIN = 4.0
"""Standard errors above which a difference is certain: few steps give a rough estimate."""
RISES = 3
"""Consecutive certain rises for which a training may be stopped."""
EQUAL = 1e-3
"""Relative difference below which two losses are the same."""
NO_GAIN = 20
"""Consecutive losses without a new lowest one, after which a training may be stopped."""


@dataclass
class LossNotDecreasing(Rule):
    """The loss is not lower by `diff_percent` than the newest one at least `num_steps` steps older;
    judged once every `num_steps`.

    AWS's test of 2019 (diff_percent=20 is silent when the loss stays the same) contradicts the
    guide; this follows the guide. More than `increase_threshold_percent` is called a rise. If a
    loss is a mean with a known error, a difference within chance is a finding only after three
    consecutive ones without a decrease.
    """

    advice: ClassVar[str] = (
        "Is the learning rate too high or too low, or are the labels wrong? A training that has "
        "converged may end"
    )
    start_step: int = 0
    num_steps: int = 10
    diff_percent: float = 0.1
    increase_threshold_percent: float = 5.0
    mode: str | None = None
    """train or eval; GLOBAL and None mean the losses of the training."""
    _seen: list[Loss] = field(default_factory=list, init=False)
    _judged: int | None = field(default=None, init=False)
    _doubted: list[Loss] = field(default_factory=list, init=False)
    """The older losses of comparisons within chance."""
    _rises: int = field(default=0, init=False)
    """Consecutive certain rises."""
    _first: Loss | None = field(default=None, init=False)
    _best: Loss | None = field(default=None, init=False)
    _since_best: int = field(default=0, init=False)

    def lasts(self, tensor: str) -> bool:  # noqa: ARG002 - it judges one loss
        """Return whether the loss keeps rising, is far above its best, or never fell.

        One rise is common in a healthy training, and so is a plateau.
        """
        if self._rises >= RISES or self._first is None or self._best is None:
            return self._rises >= RISES
        now = self._seen[-1]
        is_worse = _is_above(now, self._best, CERTAIN) or not _is_above(self._first, now, CHANCE)
        return self._since_best >= NO_GAIN and is_worse

    def loss(self, seen: Loss) -> Iterator[Finding]:
        wanted = EVAL if (self.mode or "").lower() == EVAL else TRAIN
        is_wanted = seen.mode == wanted and seen.step >= self.start_step
        if not is_wanted or not math.isfinite(seen.value):
            return
        self._remember_best(seen)
        if self._judged is None or seen.step - self._judged >= self.num_steps:
            old = [one for one in self._seen if seen.step - one.step >= self.num_steps]
            if old:
                self._judged = seen.step
                yield from self._judge(old[-1], seen)
        self._seen.append(seen)
        del self._seen[:-KEPT]

    def _remember_best(self, seen: Loss) -> None:
        self._first = self._first or seen
        is_best = self._best is None or seen.value < self._best.value
        self._best = seen if is_best else self._best
        self._since_best = 0 if is_best else self._since_best + 1

    def _judge(self, old: Loss, now: Loss) -> Iterator[Finding]:
        self.judged += 1
        self._rises = self._rises + 1 if _is_above(now, old, CERTAIN) else 0
        if abs(now.value - old.value) >= CHANCE * math.hypot(old.error, now.error):
            self._doubted.clear()
        else:
            self._doubted.append(old)
            if len(self._doubted) < DOUBTS:
                return
            old = self._doubted.pop(0)
        fall = 100 * (old.value - now.value) / abs(old.value) if old.value else 0.0
        if fall >= self.diff_percent:
            return
        how = "rose" if -fall > self.increase_threshold_percent else "did not decrease"
        verdict = f"it {how}: {old.value:.5g} before, {now.value:.5g} now ({-fall:+.2f} %)"
        yield self.finding(now.step, now.name, fall, self.diff_percent, verdict)


def _is_above(one: Loss, other: Loss, errors: float) -> bool:
    """Return whether a loss is higher than another by more than `errors` standard errors."""
    chance = errors * math.hypot(one.error, other.error)
    return one.value - other.value > max(chance, EQUAL * abs(other.value))


@dataclass
class Overfit(Rule):
    """(validation - training) / training above `ratio_threshold` more than `patience` times."""

    advice: ClassVar[str] = "Use more data, dropout or weight decay, or end the training earlier"
    start_step: int = 0
    patience: int = 1
    ratio_threshold: float = 0.1
    _train: list[float] = field(default_factory=list, init=False)
    _mean: float | None = field(default=None, init=False)
    _over: int = field(default=0, init=False)

    def loss(self, seen: Loss) -> Iterator[Finding]:
        value = seen.value
        if seen.step < self.start_step or not math.isfinite(value):
            return
        if seen.mode == TRAIN:
            self._train.append(value)
            del self._train[:-KEPT]
            return
        if self._train:  # of the steps since the last validation
            self._mean = sum(self._train) / len(self._train)
            self._train.clear()
        if not self._mean:
            return
        self.judged += 1
        ratio = (value - self._mean) / abs(self._mean)
        self._over = self._over + 1 if ratio > self.ratio_threshold else 0
        if self._over > self.patience:
            verdict = (
                f"validation {value:.4g}, training {self._mean:.4g}: "
                f"ratio {ratio:.3g} > {self.ratio_threshold:g}, {self._over} times in a row"
            )
            yield self.finding(seen.step, seen.name, ratio, self.ratio_threshold, verdict)


@dataclass
class Overtraining(Rule):
    """Neither loss improved on its best by `delta` for as many losses as its patience."""

    advice: ClassVar[str] = "Training has stopped improving: keep its best checkpoint and end it"
    patience_train: int = 5
    patience_validation: int = 10
    delta: float = 0.01
    _best: dict[str, float] = field(default_factory=dict, init=False)
    _since: dict[str, int] = field(default_factory=dict, init=False)

    def loss(self, seen: Loss) -> Iterator[Finding]:
        value, mode = seen.value, seen.mode
        if not math.isfinite(value):
            return
        best = self._best.get(mode, math.inf)
        self._since[mode] = 0 if value < best - self.delta else self._since.get(mode, 0) + 1
        self._best[mode] = min(value, best) if self._since[mode] == 0 else best
        self.judged += len(self._since) > 1
        train, validation = self._since.get(TRAIN, 0), self._since.get(EVAL, 0)
        if train >= self.patience_train and validation >= self.patience_validation:
            verdict = (
                f"no gain of {self.delta:g} in {train} training and {validation} validation losses"
            )
            yield self.finding(seen.step, seen.name, value, best - self.delta, verdict)


MOST_CLASSES = 1000
"""The size of the largest matrix of classes; a vocabulary has more."""


@dataclass
class ClassImbalance(Rule):
    """The commonest class has more than `threshold_imbalance` times as many labels as the rarest,
    or more than `threshold_misprediction` of a class's predictions are wrong; judged over all
    labels so far, from `samples` on."""

    advice: ClassVar[str] = "Weigh or resample the classes, or gather more of the rare ones"
    threshold_imbalance: float = 10.0
    threshold_misprediction: float = 0.7
    samples: int = 500
    argmax: bool = False
    """Predictions are scores per class, as two dimensions always are."""
    _counts: dict[int, int] = field(default_factory=dict, init=False)
    _wrong: dict[int, int] = field(default_factory=dict, init=False)

    def predictions(self, step: int, labels: Integers, predicted: Integers) -> Iterator[Finding]:
        for counts, some in ((self._counts, labels), (self._wrong, labels[labels != predicted])):
            for label, count in zip(*np.unique(some, return_counts=True), strict=True):
                counts[int(label)] = counts.get(int(label), 0) + int(count)
        if sum(self._counts.values()) < self.samples:
            return
        self.judged += 1
        most, least = max(self._counts.values()), min(self._counts.values())
        if most / least > self.threshold_imbalance:
            verdict = f"{most} labels of the commonest class, {least} of the rarest"
            yield self.finding(step, "labels", most / least, self.threshold_imbalance, verdict)
        for label, count in self._counts.items():
            share = self._wrong.get(label, 0) / count
            if share > self.threshold_misprediction:
                verdict = f"{share:.0%} of its {count} predictions are wrong"
                yield self.finding(
                    step, f"class {label}", share, self.threshold_misprediction, verdict
                )


@dataclass
class Confusion(Rule):
    """In the labels of one call, a class is predicted right less often than `min_diag`, or taken
    for one other class more often than `max_off_diag`.

    Each row is divided by its own sum. AWS's text divides the diagonal by the whole diagonal, which
    would make a perfect result with ten classes poor.
    """

    advice: ClassVar[str] = "Look at the two classes' examples and labels"
    category_no: int | None = None
    min_diag: float = 0.9
    max_off_diag: float = 0.1
    start_step: int = 0
    end_step: int | None = None
    _has_said: bool = field(default=False, init=False)

    def predictions(self, step: int, labels: Integers, predicted: Integers) -> Iterator[Finding]:
        if step < self.start_step or (self.end_step is not None and step > self.end_step):
            return
        size = self.category_no or int(max(labels.max(), predicted.max())) + 1
        if size > MOST_CLASSES:
            if not self._has_said:
                say_to_log(f"Confusion looks at {MOST_CLASSES} classes, and not at {size}")
            self._has_said = True
            size = MOST_CLASSES
        matrix = np.zeros((size, size))
        is_known = (labels < size) & (predicted < size)
        np.add.at(matrix, (labels[is_known], predicted[is_known]), 1)
        yield from self.matrix(step, matrix)

    def matrix(
        self, step: int, matrix: np.ndarray[tuple[int, int], np.dtype[np.float64]]
    ) -> Iterator[Finding]:
        """Rows are labels, columns predictions."""
        self.judged += 1
        for row, counts in enumerate(matrix):
            if not counts.sum():
                continue
            shares = counts / counts.sum()
            if shares[row] < self.min_diag:
                verdict = f"{shares[row]:.0%} are predicted right"
                yield self.finding(step, f"class {row}", shares[row], self.min_diag, verdict)
            for column in np.flatnonzero(shares > self.max_off_diag).tolist():
                if column != row:
                    verdict = f"{shares[column]:.0%} are taken for class {column}"
                    yield self.finding(
                        step, f"class {row}", shares[column], self.max_off_diag, verdict
                    )
