"""Predictions and labels of rows of output, as the metrics take them.

A row that can't be judged is counted with its reason and left out; `Unread.refuse_most` has the
share of them that ends a run.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.monitor.inputs.documents import Row, UnreadableError, cell
from sagemaker_byoc.monitor.inputs.streams import DataError, EmptyError, Unread
from sagemaker_byoc.monitor.scores import Predictions, Problem

MOST_CLASSES = 1000
_LONGEST_NOTICE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """Where label, prediction and probability are: a column, the number of a cell, or a path.

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
            truth: Any = number(label, "label")
            row = row if wanted.prediction else plain_number(row)
            guess: Any = number(pick(row, wanted.prediction or "0"), "prediction")
        elif wanted.problem is Problem.MULTICLASS:
            truth, guess = class_of(label, "label"), self._class(wanted, row)
        else:
            truth = binary(label, "label")
            guess, chance = _binary(wanted, row)
            if chance is not None:
                self.probabilities.append(chance)
        self.labels.append(truth)
        self.predicted.append(guess)

    def _class(self, wanted: Attributes, row: Row) -> str:
        if wanted.prediction is not None:
            return class_of(pick(row, wanted.prediction), "prediction")
        if wanted.probability is None:
            row = plain_answer(row)
            cells = row if isinstance(row, list) else [*row.values()]
            if not _holds_chances(cells):
                return class_of(cells[0], "prediction")
        found = chances(row, wanted.probability)
        if len(found) < 2:
            raise UnreadableError("there is one probability, and the problem has several classes")
        best = max(found, key=lambda each: each[1])[0]
        self.by_position |= all(name == str(place) for place, (name, _) in enumerate(found))
        return best


def _binary(wanted: Attributes, row: Row) -> tuple[float, float | None]:
    """Return the prediction, and the probability of class 1 if there is one."""
    chance = None
    if wanted.prediction is None and wanted.probability is None:
        row = plain_answer(row)
    cells = row if isinstance(row, list) else [*row.values()]
    is_class = len(cells) == 1 and cells[0] in ("true", "false")
    is_plain = wanted.prediction is None and not is_class
    if wanted.probability is not None or is_plain:
        found = chances(row, wanted.probability)
        if len(found) > 2:
            raise UnreadableError("there are several probabilities, and the problem has 2 classes")
        chance = next((each for name, each in found if name == "1"), found[-1][1])
    if wanted.prediction is not None or chance is None:
        text = pick(row, wanted.prediction or "0")
        return binary(text, "prediction"), chance
    return float(chance >= wanted.threshold), chance


def _holds_chances(cells: list[str]) -> bool:
    return are_chances(cells) or (len(cells) == 1 and cells[0][:1] == "[")


# ── rows to arrays ──


def arrays(gathered: Gathered, wanted: Attributes) -> Predictions:
    """Return what the metrics take.

    Raise EmptyError if there is nothing to judge, DataError if most of it can't be used.
    """
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


_BINARY = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}
_MISSING = frozenset({"", "nan", "NaN", "null"})
_FLOAT32 = 1e-6
"""How far a probability may be off: a softmax of 32-bit numbers gives 1.0000001."""
_ROUNDING = 0.005
"""How far each of several probabilities may be rounded off, when their sum is compared with 1."""

Chances = list[tuple[str, float]]
"""Class and probability; a class without a name goes by its position."""


# ── where a value is ──


def pick(row: Row, path: str) -> str:
    """Return the cell that `path` names: a column, the number of a cell, or a JMESPath that ends in
    a key (`predictions[*].score`)."""
    if isinstance(row, dict):
        for name in spellings(path):
            for each in (name, f"{name}_0"):  # the second is of `{"score": [0.9]}`
                if each in row and (each == name or f"{name}_1" not in row):
                    return row[each]
        row = [*row.values()] if path.isdecimal() else []
    elif len(row) == 1 and not path.isdecimal():
        return row[0]  # `predictions` of {"predictions": [0.5]}
    if path.isdecimal() and int(path) < len(row):
        return row[int(path)]
    raise UnreadableError(f"the output has no {path!r}")


def spellings(path: str) -> Iterator[str]:
    """Yield the names of a row's cells that a path may mean, the whole path first."""
    yield path
    text = path.strip().removeprefix("$").replace('"', "").replace("'", "")
    text = re.split(r"\[\*?\]", text)[-1].lstrip(".")
    text = re.sub(r"\[(\d+)\]", r"_\1", text)
    while text:
        yield text
        text = text.partition(".")[2]
    yield f"endpointOutput_{path}"  # the analyzer's own column, which scripts return


def chances(row: Row, path: str | None) -> Chances:
    """Return the probabilities below `path`, or of the whole row: `[0.1, 0.9]`,
    `{"cat": 0.1, "dog": 0.9}`, cells of a CSV row, or one such list as the text of a cell."""
    cells = _cells(row) if path is None else _below(row, path)
    if len(cells) == 1 and cells[0][1][:1] == "[":
        try:
            listed = json.loads(cells[0][1])
        except (ValueError, RecursionError) as error:
            raise UnreadableError("a list of probabilities is not JSON") from error
        cells = [(str(place), cell(value)) for place, value in enumerate(listed)]
    if not cells:
        raise UnreadableError("a prediction is missing")
    return [(name, chance(text)) for name, text in cells]


def _cells(row: Row) -> list[tuple[str, str]]:
    if isinstance(row, list):
        return [(str(place), text) for place, text in enumerate(row)]
    return [(_last(name), text) for name, text in row.items()]


def _below(row: Row, path: str) -> list[tuple[str, str]]:
    if isinstance(row, list):
        is_all = len(row) > 1 and not path.isdecimal()
        return _cells(row) if is_all else [("0", pick(row, path))]
    for name in spellings(path):
        if name in row:
            return [("0", row[name])]
        found = [
            (_last(each[len(name) + 1 :]), text)
            for each, text in row.items()
            if each.startswith((f"{name}.", f"{name}_")) and each[len(name) + 1 :]
        ]
        if found:
            return found
    return [("0", pick(row, path))]


def _last(name: str) -> str:
    """Return the class that a flattened name ends in: its key, or its position in a list."""
    tail = name.rpartition(".")[2]
    return tail.rpartition("_")[2] if tail.rpartition("_")[2].isdecimal() else tail


def are_chances(found: Sequence[str]) -> bool:
    """Whether cells are the probabilities of the classes: numbers from 0 to 1 whose sum is 1."""
    try:
        values = [chance(text) for text in found]
    except UnreadableError:
        return False
    return len(values) > 1 and abs(sum(values) - 1) <= _ROUNDING * len(values)


_PREDICTIONS = ("predicted_label", "prediction", "predicted_class", "label", "class")
_NUMBERS = ("prediction", "predicted_value", "value", "score", "mean")
_CLASSES, _SCORES = ("classes", "labels"), ("scores", "probabilities")


def plain_answer(row: Row) -> Row:
    """Return the prediction in an answer of several cells whose parts are not named, or a
    probability per class. Raise UnreadableError if that is not clear: a wrong part is worse.

    Objects go by the usual keys: those of linear learner, of pipelines of transformers, of Vertex
    (`classes` beside `scores`). Of a CSV row, the first cell is the prediction if it can be one.
    """
    cells = row if isinstance(row, list) else [*row.values()]
    if not cells:
        raise UnreadableError("a prediction is missing")
    if len(cells) == 1 or are_chances(cells):
        return row
    if isinstance(row, list):
        are_scores = all(math.isfinite(_float(each)) for each in cells)
        has_logits = are_scores and not all(0 <= _float(each) <= 1 for each in cells[1:])
        if "." not in cells[0] or not (has_logits or cells[0].removesuffix(".0").count(".")):
            return cells[:1]
    elif found := _listed_chances(row):
        return found
    elif name := next((each for each in _PREDICTIONS if each in row), None):
        return [row[name]]
    raise UnreadableError(
        "it is not clear which cell of the output is the prediction: give --prediction or "
        "--probability",
        f"{len(cells)} cells",
    )


def plain_number(row: Row) -> Row:
    """Return an answer to a regression whose parts are not named: the first cell, and of an object
    of several that of a usual key. Raise UnreadableError as `plain_answer` does."""
    if isinstance(row, list) or len(row) < 2:
        return row
    name = next((each for each in _NUMBERS if each in row), None)
    return plain_answer(row) if name is None else [row[name]]


def by_class(rows: list[Row]) -> list[Row]:
    """Return one row, a probability per class, for rows of labels and scores; others as they are.

    Pipelines of transformers answer one request with `top_k` so: `[{"label": "a", "score": 0.9},
    {"label": "b", "score": 0.1}]`. Columns of classes and scores are such rows too.
    """
    pairs = [pair for row in rows if isinstance(row, dict) and (pair := _scored(row))]
    return [dict(pairs)] if len(rows) > 1 and len(pairs) == len(rows) else rows


def _scored(row: Mapping[str, str]) -> tuple[str, str] | None:
    names = [row[key] for key in ("label", *_CLASSES) if key in row]
    scores = [row[key] for key in ("score", *_SCORES) if key in row]
    return (names[0], scores[0]) if len(names) == len(scores) == 1 and len(row) == 2 else None


def _listed_chances(row: Mapping[str, str]) -> dict[str, str]:
    """Return the probabilities of `{"classes": ["a", "b"], "scores": [0.1, 0.9]}`; {} of others."""
    places = range(len(row))
    lists = [
        [row[name] for stem in stems for place in places if (name := f"{stem}_{place}") in row]
        for stems in (_CLASSES, _SCORES)
    ]
    return dict(zip(*lists, strict=True)) if len(lists[0]) == len(lists[1]) else {}


# ── what a cell means ──


def chance(text: str) -> float:
    value = _float(text)
    if not -_FLOAT32 <= value <= 1 + _FLOAT32:
        raise UnreadableError("a probability is not a number from 0 to 1", repr(text[:40]))
    return min(max(value, 0.0), 1.0)


def number(text: str, what: str) -> float:
    value = _float(text)
    if not math.isfinite(value):
        raise UnreadableError(f"a {what} is not a number", repr(text[:40]))
    return value


def _float(text: str) -> float:
    try:
        return float(text) if "_" not in text else math.nan
    except ValueError:
        return math.nan


def binary(text: str, what: str) -> float:
    found = _BINARY.get(class_of(text, what).lower())
    if found is None:
        raise UnreadableError(f"a {what} is not 0 or 1", repr(text[:40]))
    return found


def class_of(text: str, what: str) -> str:
    """Return the name of a class; `1.0` and `1` are one."""
    if text in _MISSING:
        raise UnreadableError(f"a {what} is missing")
    return text[:-2] if text.endswith(".0") and text[:-2].lstrip("-").isdigit() else text
