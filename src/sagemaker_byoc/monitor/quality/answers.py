"""What a model said, and what was true, as numbers or classes: one row of output at a time.

Everything raises UnreadableError, which costs one row and is counted by its text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence

from sagemaker_byoc.monitor.inputs.documents import Row, UnreadableError, cell

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
    """The names of a row's cells that a path may mean, the whole path first."""
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
    """The class that a flattened name ends in: its key, or its position in a list."""
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
    """Return what an answer of several cells says if nobody names its parts: a prediction, or a
    probability per class. Raise UnreadableError if it can't be told: a wrong part is worse.

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
        "which cell of the output is the prediction is not said: give --prediction or "
        "--probability",
        f"{len(cells)} cells",
    )


def plain_number(row: Row) -> Row:
    """Return what an answer says to a regression, if nobody names its parts: the first cell, and of
    an object of several that of a usual key. Raise UnreadableError as `plain_answer` does."""
    if isinstance(row, list) or len(row) < 2:
        return row
    name = next((each for each in _NUMBERS if each in row), None)
    return plain_answer(row) if name is None else [row[name]]


def by_class(rows: list[Row]) -> list[Row]:
    """`[{"label": "a", "score": 0.9}, {"label": "b", "score": 0.1}]`, as pipelines of transformers
    answer one request with `top_k`, as one row: a probability per class. Columns of classes and
    scores are such rows too. Other rows as they are."""
    pairs = [pair for row in rows if isinstance(row, dict) and (pair := _scored(row))]
    return [dict(pairs)] if len(rows) > 1 and len(pairs) == len(rows) else rows


def _scored(row: Mapping[str, str]) -> tuple[str, str] | None:
    names = [row[key] for key in ("label", *_CLASSES) if key in row]
    scores = [row[key] for key in ("score", *_SCORES) if key in row]
    return (names[0], scores[0]) if len(names) == len(scores) == 1 and len(row) == 2 else None


def _listed_chances(row: Mapping[str, str]) -> dict[str, str]:
    """Probabilities by class of `{"classes": ["a", "b"], "scores": [0.1, 0.9]}`; {} of others."""
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
    """`1.0` and `1` are one class."""
    if text in _MISSING:
        raise UnreadableError(f"a {what} is missing")
    return text[:-2] if text.endswith(".0") and text[:-2].lstrip("-").isdigit() else text
