"""Predictions joined with the labels that came for them: from a table, or from captures.

Labels are joined by inferenceId if the caller sent one, else by eventId (developer guide:
model-monitor-model-quality-merge). Lines that a merge job has joined already are read too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from sagemaker_byoc.contract.capture import CaptureError, GroundTruth, Payload, Record
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.monitor.inputs import streams
from sagemaker_byoc.monitor.inputs.documents import Row, UnreadableError
from sagemaker_byoc.monitor.inputs.layout import Block
from sagemaker_byoc.monitor.inputs.payloads import rows
from sagemaker_byoc.monitor.inputs.scripts import preprocessor
from sagemaker_byoc.monitor.inputs.streams import DataError, Opener, Unread, records
from sagemaker_byoc.monitor.inputs.tables import INFERENCE_ID, TableReader
from sagemaker_byoc.monitor.places import Input
from sagemaker_byoc.monitor.predictions import Attributes, Gathered, by_class, pick, spellings

MOST_LABELS = 5_000_000
"""They are in memory, at some 200 bytes each."""
Labels = dict[str, GroundTruth]
"""By join key."""
_SCRIPT_LABEL = "groundTruthData_0"
"""A label that a script returns, by the name of the analyzer's own column."""


# ── a table ──


def from_table(
    reader: TableReader,
    names: Iterable[str],
    opener: Opener,
    wanted: Attributes,
    known: Labels | None = None,
) -> Gathered:
    """Gather from a dataset with a column for each, or from outputs of a transform job, joined with
    `known` labels by inference id. Raise RequestError for a column that is not there."""
    gathered = Gathered(unread=reader.unread)
    number = 0
    turn: dict[str, Iterator[str]] = {}
    for block in reader.blocks(names, opener):
        truths = _table_labels(block, wanted, known, turn)
        kept, there = _kept(block, wanted)
        found = [block.names[place] for place in kept]
        columns = (block.columns[place] for place in kept)
        for label, *cells in zip(truths, *columns, strict=True):
            number += 1
            if not label:
                gathered.unlabelled += 1
                continue
            try:
                gathered.add(there, label, dict(zip(found, cells, strict=True)))
            except UnreadableError as error:
                gathered.unread.add(error.what, f"row {number}", error.detail)
    _note_unused(gathered.unread, known, turn)
    return gathered


def _table_labels(
    block: Block, wanted: Attributes, known: Labels | None, turn: dict[str, Iterator[str]]
) -> Iterable[str | None]:
    if known is not None:
        ids = block.columns[_place(block, INFERENCE_ID)]
        return (_next_label(known, each, turn, wanted.label) for each in ids)
    if wanted.label is None:
        raise RequestError(
            "which column holds the labels?", hint="Give --label COLUMN, and --prediction COLUMN"
        )
    return block.columns[_place(block, wanted.label)]


def _next_label(
    known: Labels, key: str, turn: dict[str, Iterator[str]], label: str | None
) -> str | None:
    """Return the label of the next row that has this id: an id may stand for several rows."""
    if key not in known:
        return None
    if key not in turn:
        try:
            turn[key] = iter(_cells_of(known[key], label))
        except UnreadableError:
            turn[key] = iter(())
    return next(turn[key], None)


def _kept(block: Block, wanted: Attributes) -> tuple[list[int], Attributes]:
    """Return the places of columns that may hold an answer, and `wanted` with their names."""
    if wanted.prediction is None and wanted.probability is None:
        raise RequestError(
            "which column holds the predictions?", hint="Give --prediction or --probability"
        )
    paths = (wanted.prediction, wanted.probability)
    prediction, probability = ([] if path is None else _places(block, path) for path in paths)
    if len(prediction) == 1:
        wanted = replace(wanted, prediction=block.names[prediction[0]])
    if len(probability) == 1:
        wanted = replace(wanted, probability=block.names[probability[0]])
    return [*dict.fromkeys(prediction + probability)], wanted


def _place(block: Block, path: str) -> int:
    return _places(block, path)[0]


def _places(block: Block, path: str) -> list[int]:
    """Return the column that a path means, or the columns of a list of probabilities."""
    for name in (*spellings(path), f"_c{path}"):
        if name in block.names:
            return [block.names.index(name)]
        stems = (f"{name}.", f"{name}_")
        found = [place for place, each in enumerate(block.names) if each.startswith(stems)]
        if found:
            return found
    raise RequestError(
        f"there is no column {path!r}", hint=f"Name one of {', '.join(block.names[:20])}"
    )


# ── captures ──


def labels(names: Iterable[str], opener: Opener) -> tuple[Labels, Unread]:
    """Read labels by join key; of two for one key, the later counts."""
    found: Labels = {}
    unread = Unread()
    for place, line in _lines(names, opener, unread):
        unread.lines += 1
        try:
            for document in _ground_truths(line):
                truth = GroundTruth.from_document(document)
                if truth.key in found:
                    unread.notice("labels took the place of an earlier one of the same id")
                found[truth.key] = truth
        except CaptureError as error:
            unread.add(f"ground truth: {error.where} {error.what}", place)
        except (ValueError, RecursionError):
            unread.add("ground truth: not JSON, or cut off", place)
        if len(found) > MOST_LABELS:
            raise DataError(
                f"there are more than {MOST_LABELS:,} labels",
                hint="Judge a shorter time: name the folders of some hours",
            )
    return found, unread


def _ground_truths(line: bytes) -> list[Any]:
    """Return one record, or those of a JSON array: on one line, or one record per line."""
    found = json.loads(line.strip().removesuffix(b","))
    return found if isinstance(found, list) else [found]


def _cells_of(truth: GroundTruth, label: str | None) -> list[str]:
    """Return the labels of `1`, `"yes"`, `{"label": 1}`, or of a CSV row or JSON list with several.
    `label` is the key of one that is a JSON object of several."""
    found: list[str] = []
    try:
        for row in rows(Payload("", truth.data, truth.encoding)):
            if isinstance(row, dict) and len(row) > 1:
                found.append(pick(row, label or "label"))
            else:
                found += row if isinstance(row, list) else row.values()
    except UnreadableError as error:
        raise UnreadableError(f"ground truth: {error.what}", error.detail) from error
    if not found:
        raise UnreadableError("ground truth: groundTruthData holds no label")
    return found


def from_captures(
    names: Iterable[str],
    opener: Opener,
    wanted: Attributes,
    known: Labels,
    data: Input,
) -> Gathered:
    """Gather from captures, with the window and the script of `data`: the rows that the script
    returns are the predictions, and may hold the label too."""
    gathered = Gathered()
    used: set[str] = set()
    script = preprocessor(data.preprocess) if data.preprocess else None
    for place, line in _lines(names, opener, gathered.unread):
        gathered.unread.lines += 1
        try:
            record = Record.from_line(line)
            if data.window is not None and not data.window.has(record.time.isoformat()):
                gathered.unread.outside += 1
                continue
            found = _label(record, line, known, used)
            said = script(record, found) if script else None
            truths = _script_labels(said) or (_cells_of(found, wanted.label) if found else [])
            if truths:
                said = rows(record.output) if said is None else said
                _add_all(gathered, wanted, truths, said, place)
            else:
                gathered.unlabelled += 1
        except CaptureError as error:
            gathered.unread.add(f"{error.where} {error.what}", place)
        except UnreadableError as error:
            gathered.unread.add(error.what, place, error.detail)
        except (ValueError, RecursionError):
            gathered.unread.add("not JSON, or cut off", place)
    _note_unused(gathered.unread, known, used)
    return gathered


def _label(record: Record, line: bytes, known: Labels, used: set[str]) -> GroundTruth | None:
    """Return a record's label: first the one that a merge job wrote into the line."""
    if b'"groundTruthData"' in line:
        merged = json.loads(line)
        if isinstance(merged, dict) and "groundTruthData" in merged:
            return GroundTruth.from_document(merged | {"eventMetadata": {"eventId": "merged"}})
    for key in (record.join_key, record.event_id):
        if key in known:
            used.add(key)
            return known[key]
    return None


def _script_labels(said: list[Row] | None) -> list[str]:
    """Take the labels out of the rows that a script made, if each has one."""
    found = [row for row in said or () if isinstance(row, dict) and _SCRIPT_LABEL in row]
    if len(found) != len(said or ()):
        return []
    return [row.pop(_SCRIPT_LABEL) for row in found]


def _add_all(
    gathered: Gathered, wanted: Attributes, truths: list[str], said: list[Row], place: str
) -> None:
    """Add each prediction of a record with its label, except those that can't be judged."""
    if not said:
        raise UnreadableError("a prediction is missing")
    said = by_class(said) if len(truths) == 1 else said
    cells = [text for row in said for text in (row if isinstance(row, list) else row.values())]
    if len(said) == 1 and len(truths) > 1 and len(cells) == len(truths):
        said = [[each] for each in cells]
    elif len(truths) == 1 and len(said) > 1 and all(len(row) == 1 for row in said):
        said = [cells]
    if len(said) != len(truths):
        detail = f"{len(said)} predictions, {len(truths)} labels"
        raise UnreadableError("predictions and labels of a record differ in number", detail)
    for truth, row in zip(truths, said, strict=True):
        try:
            gathered.add(wanted, truth, row)
        except UnreadableError as error:
            gathered.unread.add(error.what, place, error.detail)


def _note_unused(unread: Unread, known: Labels | None, used: Iterable[str]) -> None:
    unused = len(known or ()) - len(set(used))
    if unused:
        unread.notice("labels belong to no record that was read", unused)


def _lines(names: Iterable[str], opener: Opener, unread: Unread) -> Iterator[tuple[str, bytes]]:
    for name in names:
        with streams.text(opener, name, unread) as stream:
            for number, line in records(stream):
                if line is None or line.strip():
                    yield f"{name}:{number}", line or b""
