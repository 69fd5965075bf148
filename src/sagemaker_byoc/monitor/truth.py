"""Predictions and the labels that came for them: from a table, or captures joined with labels.

Labels are joined by inferenceId where the caller sent one, else by eventId (developer guide:
model-monitor-model-quality-merge). Lines that a merge job has joined already are read too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sagemaker_byoc.contract.capture import CaptureError, GroundTruth, Record
from sagemaker_byoc.monitor.documents import Row, UnreadableError, cell
from sagemaker_byoc.monitor.errors import DataError, RequestError
from sagemaker_byoc.monitor.payloads import rows
from sagemaker_byoc.monitor.scores import Predictions, Problem
from sagemaker_byoc.monitor.streams import Opener, Unread, Window, lines
from sagemaker_byoc.monitor.tables import TableReader

MOST_LABELS = 5_000_000
"""They are in memory, at some 200 bytes each."""
MOST_CLASSES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """Where the three lie: a column's name, or the number of an output's cell.

    A prediction or a probability is needed; from a probability alone, `threshold` decides.
    """

    problem: Problem
    label: str | None = None
    prediction: str | None = None
    probability: str | None = None
    threshold: float = 0.5
    labels: str | None = None
    """The place of ground truth records, for captures."""


@dataclass(slots=True)
class Gathered:
    """Cells as text, row by row."""

    labels: list[str] = field(default_factory=list)
    predicted: list[str] = field(default_factory=list)
    probabilities: list[str] = field(default_factory=list)
    unlabelled: int = 0
    unread: Unread = field(default_factory=Unread)

    def add(self, attributes: Attributes, label: str, row: Row) -> None:
        """Raises UnreadableError where the row has no such cell."""
        wanted = (
            (self.predicted, attributes.prediction),
            (self.probabilities, attributes.probability),
        )
        cells = [(found, _pick(row, place)) for found, place in wanted if place is not None]
        if not cells:
            cells = [(self.predicted, _pick(row, "0"))]
        self.labels.append(label)
        for found, value in cells:
            found.append(value)


def from_table(
    reader: TableReader, names: Iterable[str], opener: Opener, wanted: Attributes
) -> Gathered:
    """A dataset with a column for each. Raises RequestError for one that is not there."""
    if wanted.label is None:
        raise RequestError(
            "which column holds the labels?", cure="Give --label COLUMN, and --prediction COLUMN"
        )
    gathered = Gathered(unread=reader.unread)
    for block in reader.blocks(names, opener):
        columns = dict(zip(block.names, block.columns, strict=True))
        for found, place in (
            (gathered.labels, wanted.label),
            (gathered.predicted, wanted.prediction),
            (gathered.probabilities, wanted.probability),
        ):
            if place is None:
                continue
            column = columns.get(place, columns.get(f"_c{place}"))
            if column is None:
                raise RequestError(
                    f"there is no column {place!r}",
                    cure=f"Name one of {', '.join(list(columns)[:20])}",
                )
            found.extend(column)
    if not gathered.predicted and not gathered.probabilities:
        raise RequestError(
            "which column holds the predictions?", cure="Give --prediction or --probability"
        )
    return gathered


def labels(names: Iterable[str], opener: Opener) -> tuple[dict[str, str], Unread]:
    """By join key; of two labels for one key, the later counts."""
    found: dict[str, str] = {}
    unread = Unread()
    for place, line in _lines(names, opener):
        unread.lines += 1
        try:
            truth = GroundTruth.from_line(line)
            found[truth.key] = truth.data.strip()
        except (CaptureError, ValueError, RecursionError):
            unread.add("no ground truth record", place)
        if len(found) > MOST_LABELS:
            raise DataError(
                f"there are more than {MOST_LABELS:,} labels",
                cure="Judge a shorter time: name the folders of some hours",
            )
    return found, unread


def from_captures(
    names: Iterable[str],
    opener: Opener,
    wanted: Attributes,
    known: dict[str, str],
    window: Window | None = None,
) -> Gathered:
    gathered = Gathered()
    for place, line in _lines(names, opener):
        gathered.unread.lines += 1
        try:
            record = Record.from_line(line)
            if window is not None and not window.has(record.time.isoformat()):
                continue
            label = known.get(record.join_key)
            if label is None:
                label = _merged(line)
            if label is None:
                gathered.unlabelled += 1
                continue
            answer = rows(record.output)
            if len(answer) != 1:
                raise UnreadableError(f"{len(answer)} predictions in one record")  # noqa: TRY301
            gathered.add(wanted, label, answer[0])
        except CaptureError as error:
            gathered.unread.add(f"{error.where} {error.what}", place)
        except UnreadableError as error:
            gathered.unread.add(str(error), place)
        except (ValueError, RecursionError):
            gathered.unread.add("no JSON, or cut off", place)
    return gathered


def _lines(names: Iterable[str], opener: Opener) -> Iterator[tuple[str, bytes]]:
    for name in names:
        with opener(name) as stream:
            for number, line in enumerate(lines(stream), start=1):
                if line is None or line.strip():
                    yield f"{name}:{number}", line or b""


def _merged(line: bytes) -> str | None:
    """The label in a line that a merge job wrote."""
    if b'"groundTruthData"' not in line:
        return None
    found: Any = json.loads(line)
    truth = found.get("groundTruthData")
    return cell(truth.get("data")) if isinstance(truth, dict) else None


def _pick(row: Row, place: str) -> str:
    if isinstance(row, dict):
        if place in row:
            return row[place]
        row = list(row.values()) if place.isdigit() else []
    if place.isdigit() and int(place) < len(row):
        return row[int(place)]
    raise UnreadableError(f"the output has no {place!r}")


# ── text to numbers ──


def predictions(gathered: Gathered, wanted: Attributes) -> Predictions:
    """Raises DataError for text where a number is needed."""
    kept = [place for place, label in enumerate(gathered.labels) if label]
    if not kept:
        unread = gathered.unread
        told = "".join(f"; {count} times: {why}" for why, count in unread.reasons.most_common(1))
        raise DataError(
            f"no prediction has a label ({gathered.unlabelled} have none{told})",
            cure="Check that labels carry the captures' eventId or inferenceId, and --prediction",
        )
    label_cells = [gathered.labels[place] for place in kept]
    predicted = [gathered.predicted[place] for place in kept] if gathered.predicted else None
    chances = None
    if gathered.probabilities:
        chances = _numbers([gathered.probabilities[place] for place in kept], "probability")
    if wanted.problem is Problem.REGRESSION:
        if predicted is None:
            raise RequestError("a regression needs a prediction", cure="Give --prediction")
        return Predictions(_numbers(label_cells, "label"), _numbers(predicted, "prediction"))
    if wanted.problem is Problem.MULTICLASS:
        if predicted is None:
            raise RequestError("several classes need a prediction", cure="Give --prediction")
        classes = tuple(sorted({*map(_class, label_cells), *map(_class, predicted)}))
        if len(classes) > MOST_CLASSES:
            raise DataError(
                f"there are {len(classes)} classes", cure="Is this a Regression? Give --problem"
            )
        order = {name: float(number) for number, name in enumerate(classes)}
        return Predictions(
            np.array([order[_class(each)] for each in label_cells]),
            np.array([order[_class(each)] for each in predicted]),
            classes=classes,
        )
    if predicted is not None:
        guesses = _binary(predicted, "prediction")
    else:
        guesses = (np.asarray(chances) >= wanted.threshold).astype(np.float64)
    return Predictions(_binary(label_cells, "label"), guesses, chances, ("0", "1"))


_BINARY = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}


def _class(text: str) -> str:
    """`1.0` and `1` are one class."""
    return text[:-2] if text.endswith(".0") and text[:-2].lstrip("-").isdigit() else text


def _binary(cells: list[str], what: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    try:
        return np.array([_BINARY[_class(each).lower()] for each in cells])
    except KeyError as error:
        raise DataError(
            f"a {what} is {error.args[0]!r}, not 0 or 1",
            cure="Give 0 and 1, or --problem MulticlassClassification",
        ) from error


def _numbers(cells: list[str], what: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    for each in cells:
        try:
            number = float(each)
        except ValueError:
            number = np.nan
        if not np.isfinite(number):
            raise DataError(f"a {what} is {each!r}, no number", cure="Mend or remove that row")
    return np.array([float(each) for each in cells])
