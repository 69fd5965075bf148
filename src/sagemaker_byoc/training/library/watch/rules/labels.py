"""Rules over labels and predictions, which the program hands over: Watch.predictions.

Definitions and defaults: SageMaker developer guide, debugger-built-in-rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from sagemaker_byoc.training.library.watch.finding import Finding
from sagemaker_byoc.training.library.watch.report.journal import say_to_log
from sagemaker_byoc.training.library.watch.rules.base import Integers, Rule

MOST_CLASSES = 1000
"""The largest matrix of classes; a vocabulary has more."""


@dataclass
class ClassImbalance(Rule):
    """The commonest class is seen more than `threshold_imbalance` times as often as the rarest,
    or a class is predicted wrongly more often than `threshold_misprediction`; judged over the
    labels so far, from `samples` labels on."""

    advice: ClassVar[str] = "Weigh or resample the classes, or gather more of the rare ones"
    threshold_imbalance: float = 10.0
    threshold_misprediction: float = 0.7
    samples: int = 500
    argmax: bool = False
    """Predictions are scores for each class. Two dimensions are taken so without it too."""
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
    """A class is predicted right less often than `min_diag`, or taken for one other class more
    often than `max_off_diag`; of the labels of one call.

    Each row is divided by its own sum: AWS's text divides the diagonal by the whole diagonal, by
    which a perfect result with ten classes would be poor.
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
