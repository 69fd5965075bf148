"""Predictions and labels as the metrics take them: which rows can be judged, and what they say.

A row that can't be judged is counted with its reason and left out; `Unread.refuse_most` has the
share of them that ends a run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.monitor.inputs.documents import Row, UnreadableError
from sagemaker_byoc.monitor.inputs.streams import DataError, EmptyError, Unread
from sagemaker_byoc.monitor.quality import answers
from sagemaker_byoc.monitor.quality.scores import Predictions, Problem

MOST_CLASSES = 1000
_LONGEST_NOTICE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """Where the three are: a column's name, the number of a cell of the output, or a path.

    From a probability alone, `threshold` decides between two classes, and the largest of several
    between several. With neither, the output itself is the prediction, or the probabilities.
    """

    problem: Problem
    label: str | None = None
    prediction: str | None = None
    probability: str | None = None
    threshold: float = 0.5
    labels: str | None = None
    """The place of ground truth records, for captures."""


def check(wanted: Attributes) -> None:
    """Raise RequestError for attributes that contradict the problem, or are out of range."""
    if wanted.problem is Problem.REGRESSION and wanted.probability and not wanted.prediction:
        raise RequestError("a regression has no probability", hint="Give --prediction")
    if not 0 <= wanted.threshold <= 1:
        raise RequestError(
            f"the threshold of the probability is {wanted.threshold}", hint="Give one from 0 to 1"
        )


@dataclass(slots=True)
class Gathered:
    """Rows that can be judged: numbers, or names of classes."""

    labels: list[Any] = field(default_factory=list)
    predicted: list[Any] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    unlabelled: int = 0
    unread: Unread = field(default_factory=Unread)
    by_position: bool = False
    """Whether a class is the position of its probability."""

    def add(self, wanted: Attributes, label: str, row: Row) -> None:
        """Raise UnreadableError for a row that can't be judged."""
        if wanted.problem is Problem.REGRESSION:
            truth: Any = answers.number(label, "label")
            row = row if wanted.prediction else answers.plain_number(row)
            guess: Any = answers.number(answers.pick(row, wanted.prediction or "0"), "prediction")
        elif wanted.problem is Problem.MULTICLASS:
            truth, guess = answers.class_of(label, "label"), self._class(wanted, row)
        else:
            truth = answers.binary(label, "label")
            guess, chance = _binary(wanted, row)
            if chance is not None:
                self.probabilities.append(chance)
        self.labels.append(truth)
        self.predicted.append(guess)

    def _class(self, wanted: Attributes, row: Row) -> str:
        if wanted.prediction is not None:
            return answers.class_of(answers.pick(row, wanted.prediction), "prediction")
        if wanted.probability is None:
            row = answers.plain_answer(row)
            cells = row if isinstance(row, list) else [*row.values()]
            if not _holds_chances(cells):
                return answers.class_of(cells[0], "prediction")
        found = answers.chances(row, wanted.probability)
        if len(found) < 2:
            raise UnreadableError("there is one probability, and the problem has several classes")
        best = max(found, key=lambda each: each[1])[0]
        self.by_position |= all(name == str(place) for place, (name, _) in enumerate(found))
        return best


def _binary(wanted: Attributes, row: Row) -> tuple[float, float | None]:
    """The prediction, and the probability of class 1 if there is one."""
    chance = None
    if wanted.prediction is None and wanted.probability is None:
        row = answers.plain_answer(row)
    cells = row if isinstance(row, list) else [*row.values()]
    is_class = len(cells) == 1 and cells[0] in ("true", "false")
    is_plain = wanted.prediction is None and not is_class
    if wanted.probability is not None or is_plain:
        found = answers.chances(row, wanted.probability)
        if len(found) > 2:
            raise UnreadableError("there are several probabilities, and the problem has 2 classes")
        chance = next((each for name, each in found if name == "1"), found[-1][1])
    if wanted.prediction is not None or chance is None:
        text = answers.pick(row, wanted.prediction or "0")
        return answers.binary(text, "prediction"), chance
    return float(chance >= wanted.threshold), chance


def _holds_chances(cells: list[str]) -> bool:
    return answers.are_chances(cells) or (len(cells) == 1 and cells[0][:1] == "[")


# ── rows to arrays ──


def predictions(gathered: Gathered, wanted: Attributes) -> Predictions:
    """Raise EmptyError if there is nothing to judge, and DataError if most of it is of no use."""
    unread = gathered.unread
    is_given = wanted.labels is not None or wanted.label is not None
    if not gathered.labels and gathered.unlabelled and not is_given:
        raise RequestError(
            f"none of {gathered.unlabelled:,} predictions has a label, and no labels are given",
            hint="Give --ground-truth PLACE",
        )
    if not gathered.labels and not unread.count:
        what = f"none of {gathered.unlabelled:,} predictions has a label"
        raise EmptyError(
            what if gathered.unlabelled else "there is no prediction, or none of that time",
            hint="Nothing was judged, which is neither a violation nor a pass: labels may come "
            "later, and carry the captures' inferenceId or eventId",
        )
    unread.refuse_most(len(gathered.labels), "rows can't be judged", _HINT)
    if wanted.problem is Problem.MULTICLASS:
        return _classes(gathered)
    labels, guesses = np.array(gathered.labels, float), np.array(gathered.predicted, float)
    if wanted.problem is Problem.REGRESSION:
        return Predictions(labels, guesses)
    has_all = len(gathered.probabilities) == len(gathered.labels)
    chances = np.array(gathered.probabilities) if has_all else None
    if chances is not None and wanted.probability is None and np.isin(chances, (0, 1)).all():
        chances = None  # the output was the prediction
    return Predictions(labels, guesses, chances, ("0", "1"))


_HINT = "Check --problem, --prediction, --probability and the labels, or remove those rows"


def _classes(gathered: Gathered) -> Predictions:
    classes = tuple(sorted({*gathered.labels, *gathered.predicted}))
    if len(classes) > MOST_CLASSES:
        raise DataError(
            f"there are {len(classes)} classes", hint="Is this a Regression? Give --problem"
        )
    if gathered.by_position and not any(each.isdecimal() for each in gathered.labels):
        raise DataError(
            f"the labels are names ({gathered.labels[0][:40]!r}), and the probabilities have none",
            hint='Let the model return {"NAME": probability, …} or the class, or give --prediction',
        )
    truths, guesses = gathered.labels, gathered.predicted
    if not {*truths} & {*guesses}:
        known, said = (", ".join(map(repr, sorted({*each})[:3])) for each in (truths, guesses))
        told = f"rows, in which no prediction ({said}) is the class of any label ({known})"
        gathered.unread.notice(told[:_LONGEST_NOTICE], len(truths))
    order = {name: float(number) for number, name in enumerate(classes)}
    return Predictions(
        np.array([order[each] for each in gathered.labels]),
        np.array([order[each] for each in gathered.predicted]),
        classes=classes,
    )
