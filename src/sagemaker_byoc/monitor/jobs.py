"""The jobs of the three monitors: of data, of a model's quality, of attributions.

Each makes a baseline, or compares with one; which monitor it is follows from the request, or from
the baseline's constraints.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.monitor import attribution, explanation, model_quality, page
from sagemaker_byoc.monitor.data import checks, constraints, statistics
from sagemaker_byoc.monitor.data.checks import Findings, forecast
from sagemaker_byoc.monitor.data.constraints import FILE as CONSTRAINTS
from sagemaker_byoc.monitor.data.constraints import Constraints
from sagemaker_byoc.monitor.data.statistics import FILE as STATISTICS
from sagemaker_byoc.monitor.data.statistics import Profile, Statistics
from sagemaker_byoc.monitor.inputs import scripts
from sagemaker_byoc.monitor.inputs.captures import CaptureReader
from sagemaker_byoc.monitor.inputs.layout import Block, Layout, Outputs
from sagemaker_byoc.monitor.inputs.streams import (
    DataError,
    EmptyError,
    Unread,
)
from sagemaker_byoc.monitor.inputs.tables import Format, TableReader
from sagemaker_byoc.monitor.places import (
    Input,
    Places,
    are_one,
    detect_all,
    files_of,
    json_bytes,
    note_window,
    nothing_found,
)
from sagemaker_byoc.monitor.predictions import Attributes
from sagemaker_byoc.pages import templates


@dataclass(frozen=True, slots=True)
class Found:
    """`outcome` belongs to a run on data, which alone has metrics for CloudWatch."""

    why: Mapping[str, Any]
    outcome: Outcome | None = None

    @property
    def violations(self) -> int:
        return len(self.why["violations"])

    @property
    def not_compared(self) -> int:
        """How many columns or metrics were not compared with the baseline."""
        return len(self.why.get("not_compared") or ())

    @property
    def has_checked(self) -> bool:
        """Whether any check was made; else "no violation" says nothing."""
        return bool(self.why["checks"])

    @property
    def words(self) -> list[str]:
        return words(self.why)


def make_baseline(
    places: Places, data: Input, wanted: Attributes | None, output: str
) -> dict[str, Any]:
    """Make a baseline. Return what was made, for a person or a program. Raise ByocError."""
    if wanted is not None:
        judged = model_quality.make_baseline(places, data, wanted, output)
        metrics = {name: score.document()["value"] for name, score in judged.scores.items()}
        return {"rows": judged.rows, "metrics": metrics, "notices": [*judged.notices]}
    document = _analysis(places, data.place)
    if document is not None:
        labels = attribution.make_baseline(places, document, data.place, output)
        return {"labels": {name: len(each) for name, each in labels.items()}}
    outcome = make_data_baseline(places, data, output)
    columns = outcome.profile.columns
    return {
        "rows": outcome.profile.rows,
        "columns": {name: each.inferred.value for name, each in columns.items()},
        "unread": outcome.unread.count,
        "notices": explanation.unread_words(explanation.unread_document(outcome.unread)),
        "warnings": {name: text for name, each in columns.items() if (text := forecast(each))},
    }


def problem_of(baseline: Documents) -> str | None:
    """Return the problem of a baseline of model quality; None for any other."""
    return model_quality.problem_of(baseline.get(CONSTRAINTS) or {})


def run(
    places: Places, data: Input, baseline: Documents, wanted: Attributes | None, output: str
) -> Found:
    """Compare with a baseline, as `documents` reads it. Raise ByocError."""
    templates.environment()  # a missing Jinja2 is reported before gigabytes are read
    constraints = baseline.get(CONSTRAINTS) or {}
    place = str(data.about.get("baseline") or "").removesuffix(f"/{CONSTRAINTS}")
    if place and are_one(place, output):
        raise RequestError(
            f"{output} holds the baseline, which the results would replace",
            hint="Name another --output folder",
        )
    files = files_of(places, data)
    about = explanation.subject(
        data.place, files, data.window, baseline.get(STATISTICS), data.about
    )
    data = replace(data, about=about)
    if attribution.KEY in constraints:
        document = _analysis(places, data.place)
        if document is None:
            raise RequestError(
                f"{data.place} is not an analysis.json, and the baseline is of attributions",
                hint="Name the analysis.json that was computed on live traffic",
            )
        return Found(attribution.run(places, document, constraints, output, about))
    problem = model_quality.problem_of(constraints)
    if wanted is None and problem is not None:
        wanted = Attributes(problem=problem)
    if wanted is not None:
        return Found(model_quality.run(places, data, wanted, constraints, output).explanation)
    outcome = run_data(places, data, parse_baseline(baseline, "the baseline"), output)
    return Found(outcome.explanation, outcome)


def words(why: Mapping[str, Any]) -> list[str]:
    """Return explanation.json as lines for a person. Raise DataError for another document."""
    makers = {
        "model_quality": model_quality.words,
        "feature_attribution": attribution.words,
        None: explanation.words,
    }
    try:
        return [line.translate(_ONE_LINE) for line in makers[why.get("kind")](why)]
    except _UNFIT as error:
        raise DataError(
            f"explanation.json is not as `byoc monitor run` writes it: "
            f"{type(error).__name__} {error}",
            hint="Run it again",
        ) from error


_ONE_LINE = str.maketrans("\r\n\v\f\x85\u2028\u2029", "       ")
"""Names come from data: a line end in one must not look like a line of ours."""
_UNFIT = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, StopIteration)


def _analysis(places: Places, place: str) -> dict[str, Any] | None:
    """Attributions come as one JSON file."""
    if not place.endswith(".json"):
        return None
    with places.open(place) as stream:
        try:
            found = json.loads(stream.read())
        except (ValueError, RecursionError):
            return None
    return found if isinstance(found, dict) and attribution.KEY in found else None


# ── data ──


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


def make_data_baseline(places: Places, data: Input, output: str) -> Outcome:
    """Write statistics.json and constraints.json. Raise ByocError."""
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
            STATISTICS: json_bytes(
                statistics.document(profile.rows, columns, position)
                | {statistics.ORIGIN: statistics.origin(data.place)}
            ),
            CONSTRAINTS: json_bytes(constraints.suggest(columns)),
        },
    )
    return Outcome(profile, unread)


Documents = dict[str, dict[str, Any] | None]
"""A baseline's files as they were read; None for one that is not there."""


def documents(places: Places, folder: str) -> Documents:
    """Read a baseline. Without statistics.json nothing is compared."""
    found: Documents = {file: _document(places, folder, file) for file in (CONSTRAINTS, STATISTICS)}
    if found[CONSTRAINTS] is None:
        raise RequestError(
            f"{folder} holds no {CONSTRAINTS}",
            hint="Make a baseline first: byoc monitor baseline DATA.csv --output DIR",
        )
    return found


def parse_baseline(found: Documents, where: str) -> Baseline:
    before = found.get(STATISTICS)
    return Baseline(
        constraints.parse(found[CONSTRAINTS] or {}, f"{where}/{CONSTRAINTS}"),
        None if before is None else statistics.parse(before, f"{where}/{STATISTICS}"),
    )


def run_data(places: Places, data: Input, baseline: Baseline, output: str) -> Outcome:
    """Write AWS's three files, explanation.json and report.html. Raise ByocError."""
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
            STATISTICS: json_bytes(statistics.document(profile.rows, columns)),
            CONSTRAINTS: json_bytes(constraints.suggest(columns)),
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
        raise DataError(f"{folder}/{file} is not a JSON object", hint="Make it again")
    return found


def _read(places: Places, data: Input, layout: Layout, profile: Profile) -> Unread:
    """Read everything into `profile`. Raise EmptyError if there is nothing, and DataError if most
    of it could not be used."""
    files = files_of(places, data)
    form = data.form or detect_all(places, files, layout.names or ())
    reader: CaptureReader | TableReader
    if form is Format.CAPTURE:
        preprocess = scripts.preprocessor(data.preprocess) if data.preprocess else None
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
        raise nothing_found(data, unread)
    unread.refuse_most(rows, "lines could not be used", "Give captures, CSV, JSON or Parquet")
    return unread
