"""Metrics of predictions, with the names of SageMaker's model quality monitor.

Source: developer guide, model-monitor-model-quality-metrics; its examples are tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.monitor.data.distributions import Values

Counts = npt.NDArray[np.int64]
FEWEST_FOR_DEVIATION = 200
"""Samples; with fewer, AWS writes "NaN"."""
SUBSETS = 5
_SUBSET_SHARE = 0.8
_SUBSETS_FOR_ERROR = 50
_MOST_POINTS = 100
_BETAS = {"f0_5": 0.5, "f1": 1.0, "f2": 2.0}


class Problem(StrEnum):
    REGRESSION = "Regression"
    BINARY = "BinaryClassification"
    MULTICLASS = "MulticlassClassification"

    @property
    def stem(self) -> str:
        """Prefix of the keys in statistics.json and constraints.json."""
        return {
            Problem.REGRESSION: "regression",
            Problem.BINARY: "binary_classification",
            Problem.MULTICLASS: "multiclass_classification",
        }[self]


@dataclass(frozen=True, slots=True)
class Score:
    value: float
    deviation: float
    """As AWS computes it, over five random subsets of 80 %; NaN below 200 samples."""
    error: float
    """The standard error, which is twice what subsets of 80 % deviate by; NaN below 200."""

    def document(self) -> dict[str, Json]:
        return {"value": _json(self.value), "standard_deviation": _json(self.deviation)}


@dataclass(frozen=True, slots=True)
class Judged:
    """`document` is the section of statistics.json, curves and confusion matrix included."""

    rows: int
    scores: dict[str, Score]
    document: dict[str, Json]
    classes: tuple[str, ...] = ()
    matrix: Counts | None = None
    """The confusion matrix, rows the truth; None for a regression."""
    notices: tuple[str, ...] = ()
    """Lines for a person: rows that were left out, or not read as written."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """Row by row. `classes` are the labels' names, in order; `probabilities` those of class 1."""

    labels: Values
    predicted: Values
    probabilities: Values | None = None
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, places: npt.NDArray[np.intp]) -> Predictions:
        return Predictions(
            self.labels[places],
            self.predicted[places],
            None if self.probabilities is None else self.probabilities[places],
            self.classes,
        )


def judge(problem: Problem, data: Predictions) -> Judged:
    """Return the metrics of `data`, which has at least one row."""
    measure = {
        Problem.REGRESSION: regression,
        Problem.BINARY: binary,
        Problem.MULTICLASS: multiclass,
    }[problem]
    values = measure(data)
    deviations, errors = _spread(measure, data, [*values])
    scores = {name: Score(value, deviations[name], errors[name]) for name, value in values.items()}
    found: dict[str, Json] = {}
    matrix: Counts | None = None
    if problem is not Problem.REGRESSION:
        matrix = confusion(data)
        found["confusion_matrix"] = {
            truth: {name: int(count) for name, count in zip(data.classes, row, strict=True)}
            for truth, row in zip(data.classes, matrix, strict=True)
        }
    found |= {name: score.document() for name, score in scores.items()}
    if problem is Problem.BINARY and data.probabilities is not None:
        found |= _curves(data.labels, data.probabilities)
    return Judged(len(data), scores, found, data.classes, matrix)


def _spread(
    measure: Callable[[Predictions], dict[str, float]], data: Predictions, names: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    if len(data) < FEWEST_FOR_DEVIATION:
        return dict.fromkeys(names, math.nan), dict.fromkeys(names, math.nan)
    random = np.random.default_rng(0)
    size = round(_SUBSET_SHARE * len(data))
    found = [
        measure(data.part(random.permutation(len(data))[:size])) for _ in range(_SUBSETS_FOR_ERROR)
    ]
    deviations = {
        name: float(np.std([each[name] for each in found[:SUBSETS]], ddof=1)) for name in names
    }
    errors = {name: 2 * float(np.std([each[name] for each in found], ddof=1)) for name in names}
    return deviations, errors


def regression(data: Predictions) -> dict[str, float]:
    wrong = data.predicted - data.labels
    squared = float((wrong**2).mean())
    spread = float(((data.labels - data.labels.mean()) ** 2).mean())
    return {
        "mae": float(np.abs(wrong).mean()),
        "mse": squared,
        "rmse": math.sqrt(squared),
        "r2": 1 - squared / spread if spread else math.nan,
    }


def confusion(data: Predictions) -> Counts:
    """Return the confusion matrix: rows are the truth, columns the predictions."""
    size = len(data.classes)
    place = data.labels.astype(np.int64) * size + data.predicted.astype(np.int64)
    return np.bincount(place, minlength=size * size).reshape(size, size)


def binary(data: Predictions) -> dict[str, float]:
    (true_no, false_yes), (false_no, true_yes) = confusion(data).tolist()
    recall = _ratio(true_yes, true_yes + false_no)
    precision = _ratio(true_yes, true_yes + false_yes)
    always = _ratio(true_yes + false_no, len(data))
    found = {
        "recall": recall,
        "precision": precision,
        "accuracy": (true_yes + true_no) / len(data),
        # The guide's example takes "always yes", even if most labels are no.
        "recall_best_constant_classifier": 1.0 if always else math.nan,
        "precision_best_constant_classifier": always,
        "accuracy_best_constant_classifier": always,
        "true_positive_rate": recall,
        "true_negative_rate": _ratio(true_no, true_no + false_yes),
        "false_positive_rate": _ratio(false_yes, true_no + false_yes),
        "false_negative_rate": _ratio(false_no, true_yes + false_no),
    }
    if data.probabilities is not None:
        found["auc"] = area(data.labels, data.probabilities)
    found |= {name: f_score(precision, recall, beta) for name, beta in _BETAS.items()}
    found |= {
        f"{name}_best_constant_classifier": f_score(always, 1.0, beta)
        for name, beta in _BETAS.items()
    }
    return found


def multiclass(data: Predictions) -> dict[str, float]:
    matrix = confusion(data)
    truth = matrix.sum(axis=1)
    constant = np.zeros_like(matrix)
    constant[:, int(truth.argmax())] = truth
    suffix = "_best_constant_classifier"
    best = _weighted(constant)
    return _weighted(matrix) | {f"{name}{suffix}": value for name, value in best.items()}


def _weighted(matrix: Counts) -> dict[str, float]:
    """Return metrics weighted by the share of each class among the labels, as Spark has them."""
    truth, guessed, right = matrix.sum(axis=1), matrix.sum(axis=0), np.diag(matrix)
    weights = truth / truth.sum()
    recalls = [_ratio(*each) for each in zip(right.tolist(), truth.tolist(), strict=True)]
    precisions = [_ratio(*each, 0.0) for each in zip(right.tolist(), guessed.tolist(), strict=True)]
    found = {
        "accuracy": float(right.sum() / truth.sum()),
        "weighted_recall": _mean(recalls, weights),
        "weighted_precision": _mean(precisions, weights),
    }
    for name, beta in _BETAS.items():
        scores = [
            f_score(precision, recall, beta)
            for precision, recall in zip(precisions, recalls, strict=True)
        ]
        found[f"weighted_{name}"] = _mean(scores, weights)
    return found


def _mean(values: Sequence[float], weights: Values) -> float:
    """Return the weighted mean; a class that no label has weighs nothing, whatever its value."""
    return float(
        sum(value * weight for value, weight in zip(values, weights, strict=True) if weight)
    )


def f_score(precision: float, recall: float, beta: float) -> float:
    weight = beta * beta
    below = weight * precision + recall
    return (1 + weight) * precision * recall / below if below else 0.0


def area(labels: Values, probabilities: Values) -> float:
    """Return the area under the ROC curve, from ranks; equal probabilities share theirs."""
    _, place, counts = np.unique(probabilities, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[place]
    yes = labels > 0
    positives, negatives = int(yes.sum()), int((~yes).sum())
    if not positives or not negatives:
        return math.nan
    above = float(ranks[yes].sum()) - positives * (positives + 1) / 2
    return above / (positives * negatives)


def _curves(labels: Values, probabilities: Values) -> dict[str, Json]:
    order = np.argsort(-probabilities, kind="stable")
    sorted_labels, sorted_chances = labels[order], probabilities[order]
    last = np.append(np.diff(sorted_chances) != 0, True)  # of equal probabilities, only the last
    yes = np.cumsum(sorted_labels)[last]
    called = (np.arange(len(labels)) + 1.0)[last]
    no = called - yes
    some = np.unique(np.linspace(0, len(yes) - 1, min(len(yes), _MOST_POINTS)).astype(int))
    positives, negatives = float(yes[-1]) or math.nan, float(no[-1]) or math.nan
    return {
        "receiver_operating_characteristic_curve": {
            "false_positive_rates": [0.0, *map(_json, (no[some] / negatives).tolist())],
            "true_positive_rates": [0.0, *map(_json, (yes[some] / positives).tolist())],
        },
        "precision_recall_curve": {
            "precisions": [1.0, *map(_json, (yes[some] / called[some]).tolist())],
            "recalls": [0.0, *map(_json, (yes[some] / positives).tolist())],
        },
    }


def _ratio(part: float, whole: float, without: float = math.nan) -> float:
    return part / whole if whole else without


def _json(value: float) -> Json:
    return value if math.isfinite(value) else "NaN"
