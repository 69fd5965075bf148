"""Which of the three monitors a request means: of data, of a model's quality, of attributions.

A baseline tells by what is in its constraints.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.monitor import attribution, jobs
from sagemaker_byoc.monitor.data.checks import forecast
from sagemaker_byoc.monitor.data.constraints import FILE as CONSTRAINTS
from sagemaker_byoc.monitor.data.statistics import FILE as STATISTICS
from sagemaker_byoc.monitor.inputs.streams import DataError
from sagemaker_byoc.monitor.jobs import Documents, Input
from sagemaker_byoc.monitor.places import Places, are_one
from sagemaker_byoc.monitor.quality import quality
from sagemaker_byoc.monitor.quality.truth import Attributes
from sagemaker_byoc.monitor.report import explanation
from sagemaker_byoc.monitor.report import words as data_words
from sagemaker_byoc.pages import templates


@dataclass(frozen=True, slots=True)
class Found:
    """`outcome` belongs to a run on data, which alone has metrics for CloudWatch."""

    why: Mapping[str, Any]
    outcome: jobs.Outcome | None = None

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
    """What was made, for a person or a program. Raises ByocError."""
    if wanted is not None:
        judged = quality.make_baseline(places, data, wanted, output)
        metrics = {name: score.document()["value"] for name, score in judged.scores.items()}
        return {"rows": judged.rows, "metrics": metrics, "notices": [*judged.notices]}
    document = _analysis(places, data.place)
    if document is not None:
        labels = attribution.make_baseline(places, document, data.place, output)
        return {"labels": {name: len(each) for name, each in labels.items()}}
    outcome = jobs.make_baseline(places, data, output)
    columns = outcome.profile.columns
    return {
        "rows": outcome.profile.rows,
        "columns": {name: each.inferred.value for name, each in columns.items()},
        "unread": outcome.unread.count,
        "notices": data_words.unread_words(explanation.unread_document(outcome.unread)),
        "warnings": {name: text for name, each in columns.items() if (text := forecast(each))},
    }


def problem_of(baseline: Documents) -> str | None:
    """Of a baseline of model quality."""
    return quality.problem_of(baseline.get(CONSTRAINTS) or {})


def run(
    places: Places, data: Input, baseline: Documents, wanted: Attributes | None, output: str
) -> Found:
    """`baseline` as `jobs.documents` reads it. Raises ByocError."""
    templates.environment()  # a missing Jinja2 is reported before gigabytes are read
    constraints = baseline.get(CONSTRAINTS) or {}
    place = str(data.about.get("baseline") or "").removesuffix(f"/{CONSTRAINTS}")
    if place and are_one(place, output):
        raise RequestError(
            f"{output} holds the baseline, which the results would replace",
            hint="Name another --output folder",
        )
    files = jobs.files_of(places, data)
    about = explanation.subject(
        data.place, files, data.window, baseline.get(STATISTICS), data.about
    )
    data = replace(data, about=about)
    if attribution.KEY in constraints:
        document = _analysis(places, data.place)
        if document is None:
            raise RequestError(
                f"{data.place} is no analysis.json, and the baseline is of attributions",
                hint="Name the analysis.json that was computed on live traffic",
            )
        return Found(attribution.run(places, document, constraints, output, about))
    problem = quality.problem_of(constraints)
    if wanted is None and problem is not None:
        wanted = Attributes(problem=problem)
    if wanted is not None:
        return Found(quality.run(places, data, wanted, constraints, output).explanation)
    outcome = jobs.run(places, data, jobs.parse_baseline(baseline, "the baseline"), output)
    return Found(outcome.explanation, outcome)


def words(why: Mapping[str, Any]) -> list[str]:
    """explanation.json as lines for a person. Raises DataError for what is none."""
    makers = {
        "model_quality": quality.words,
        "feature_attribution": attribution.words,
        None: data_words.words,
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
