"""The two jobs on data: a baseline is made, and traffic is held against it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import MAXYEAR, MINYEAR
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.contract.hosting.capture import hour_of
from sagemaker_byoc.monitor.data import checks, constraints, statistics
from sagemaker_byoc.monitor.data.checks import Findings
from sagemaker_byoc.monitor.data.constraints import Constraints
from sagemaker_byoc.monitor.data.statistics import Profile, Statistics
from sagemaker_byoc.monitor.inputs import hooks
from sagemaker_byoc.monitor.inputs.captures import CaptureReader
from sagemaker_byoc.monitor.inputs.layout import Block, Layout, Outputs
from sagemaker_byoc.monitor.inputs.streams import (
    DataError,
    EmptyError,
    Unread,
    Window,
    is_parquet,
    text,
)
from sagemaker_byoc.monitor.inputs.tables import Format, TableReader, detect
from sagemaker_byoc.monitor.places import NOTHING, Places, json_bytes
from sagemaker_byoc.monitor.report import explanation, page


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What is read, and how. `form` None: found out from the first line."""

    place: str
    form: Format | None = None
    outputs: Outputs = Outputs.AUTO
    window: Window | None = None
    preprocess: Path | None = None
    about: Mapping[str, Json] = field(default_factory=dict)
    """What the caller knows for the report, as `explanation.subject` takes it, and returns it."""


@dataclass(frozen=True, slots=True)
class Baseline:
    constraints: Constraints
    statistics: Statistics | None


@dataclass(frozen=True, slots=True)
class Outcome:
    profile: Profile
    unread: Unread
    constraints: Constraints = field(default_factory=lambda: Constraints({}))
    findings: Findings = field(default_factory=Findings)
    explanation: dict[str, Json] = field(default_factory=dict)


def make_baseline(places: Places, data: Input, output: str) -> Outcome:
    """Writes statistics.json and constraints.json. Raises ByocError."""
    layout = Layout(outputs=data.outputs)
    profile = Profile()
    try:
        unread = _read(places, data, layout, profile)
    except EmptyError as error:
        raise DataError(
            error.what, hint="Give captured JSON Lines, CSV, JSON or Parquet"
        ) from error
    columns = [*profile.columns.values()]
    position = "" if data.outputs is Outputs.AUTO else data.outputs.value
    places.write(
        output,
        {
            statistics.FILE: json_bytes(
                statistics.document(profile.rows, columns, position)
                | {statistics.ORIGIN: statistics.origin(data.place)}
            ),
            constraints.FILE: json_bytes(constraints.suggest(columns)),
        },
    )
    return Outcome(profile, unread)


Documents = dict[str, dict[str, Any] | None]
"""A baseline's files as they were read; None for one that is not there."""


def documents(places: Places, folder: str) -> Documents:
    """constraints.json has to be there; without statistics.json nothing is compared."""
    found: Documents = {
        file: _document(places, folder, file) for file in (constraints.FILE, statistics.FILE)
    }
    if found[constraints.FILE] is None:
        raise RequestError(
            f"{folder} holds no {constraints.FILE}",
            hint="Make a baseline first: byoc monitor baseline DATA.csv --output DIR",
        )
    return found


def read_baseline(places: Places, folder: str) -> Baseline:
    return parse_baseline(documents(places, folder), folder)


def parse_baseline(found: Documents, where: str) -> Baseline:
    before = found.get(statistics.FILE)
    return Baseline(
        constraints.parse(found[constraints.FILE] or {}, f"{where}/{constraints.FILE}"),
        None if before is None else statistics.parse(before, f"{where}/{statistics.FILE}"),
    )


def run(places: Places, data: Input, baseline: Baseline, output: str) -> Outcome:
    """Writes AWS's three files, explanation.json and report.html. Raises ByocError."""
    before, wanted = baseline.statistics, baseline.constraints
    outputs = data.outputs
    if outputs is Outputs.AUTO and before is not None and before.outputs:
        outputs = Outputs(before.outputs)
    layout = Layout(tuple(wanted.features), outputs)
    categories = before.features.items() if before is not None else ()
    profile = Profile(
        wanted.kinds,
        {name: frozenset(each.categories) for name, each in categories},
        before.mixed if before is not None else (),
    )
    unread = _read(places, data, layout, profile)
    findings = checks.check(profile, layout, wanted, before)
    why = explanation.document(profile, wanted, before, findings, unread)
    why["about"] = {**data.about}
    columns = [*profile.columns.values()]
    places.write(
        output,
        {
            statistics.FILE: json_bytes(statistics.document(profile.rows, columns)),
            constraints.FILE: json_bytes(constraints.suggest(columns)),
            checks.FILE: json_bytes(findings.document()),
            explanation.FILE: json_bytes(why),
            page.FILE: page.data(profile, before, why),
        },
    )
    return Outcome(profile, unread, wanted, findings, why)


def read_explanation(places: Places, folder: str) -> dict[str, Any]:
    found = _document(places, folder, explanation.FILE)
    if found is None:
        raise RequestError(
            f"{folder} holds no {explanation.FILE}",
            hint="Name the --output folder of a `byoc monitor run`",
        )
    return found


def _document(places: Places, folder: str, file: str) -> dict[str, Any] | None:
    data = places.read(folder, file)
    if data is None:
        return None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{folder}/{file} is not JSON ({error})", hint="Make it again") from error
    if not isinstance(found, dict):
        raise DataError(f"{folder}/{file} holds no JSON object", hint="Make it again")
    return found


def _read(places: Places, data: Input, layout: Layout, profile: Profile) -> Unread:
    """Everything into `profile`. Raise EmptyError if there is nothing, and DataError if most of it
    could not be used."""
    files = files_of(places, data)
    form = data.form or detect_all(places, files, layout.names or ())
    reader: CaptureReader | TableReader
    if form is Format.CAPTURE:
        preprocess = hooks.preprocessor(data.preprocess) if data.preprocess else None
        reader = CaptureReader(layout, window=data.window, preprocess=preprocess)
    elif data.preprocess:
        raise RequestError(
            f"{data.place} holds {form}, and a preprocess_handler takes captured records",
            hint="Leave the script out, or give captures",
        )
    else:
        reader = TableReader(form, layout)
    blocks: Iterator[Block] = reader.blocks(files, places.open)
    for block in blocks:
        profile.add(block)
    unread = reader.unread
    for name, rows in layout.by_position.items():
        unread.notice(f"rows had names such as {name!r}, which were read by position", rows)
    for name, rows in layout.unwrapped.items():
        unread.notice(f"rows had their columns below the key {name!r}", rows)
    note_window(data, form, files, unread)
    rows = profile.rows + layout.misfits.total()
    if not rows and (unread.outside or not unread.count):
        raise _nothing(data, unread)
    unread.refuse_most(rows, "lines could not be used", "Give captures, CSV, JSON or Parquet")
    return unread


def files_of(places: Places, data: Input) -> list[str]:
    """The files to read; those that a manifest names in its place. Raise EmptyError if there are
    none, as in an hour without traffic."""
    found = places.files(data.place)
    if data.window is not None:
        found = [name for name in found if data.window.has_file(name)]
    if not found:
        raise _nothing(data)
    found = places.expanded(found)
    places.expect(found)
    return found


def note_window(data: Input, form: Format, files: list[str], unread: Unread) -> None:
    """Say that `data.window` picked no rows of tables that are in no folder of an hour."""
    timeless = [name for name in files if hour_of(name) is None]
    if data.window is not None and form is not Format.CAPTURE and timeless:
        unread.notice(
            "files were read whole, whatever the time: their rows have none", len(timeless)
        )


def _nothing(data: Input, unread: Unread | None = None) -> EmptyError:
    what = f"{data.place} holds no record"
    if data.window is not None and data.window.start.year > MINYEAR:
        what += f" since {data.window.start.isoformat()}"
    if data.window is not None and data.window.end.year < MAXYEAR:
        what += f" until {data.window.end.isoformat()}"
    if unread is not None and unread.outside:
        what += f", and {unread.outside:,} of another time"
    return EmptyError(what, hint=NOTHING)


def detect_all(places: Places, files: list[str], names: Sequence[str] = ()) -> Format:
    """By the first file that is not empty; captures if all are. `names` are the baseline's."""
    for name in files:
        if is_parquet(places.open, name):
            return Format.PARQUET
        with text(places.open, name, Unread()) as stream:
            form = detect(name, stream, names)
        if form is not None:
            return form
    return Format.CAPTURE
