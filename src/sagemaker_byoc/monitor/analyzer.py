"""The container entry: the variables of AWS's own analyzer image, and the files it leaves.

Sources: developer guide, model-monitor-byoc-contract-inputs, -outputs, -cloudwatch; the messages
are those of AWS's sample of a monitoring container with custom metrics.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract.errors import ByocError, RequestError
from sagemaker_byoc.contract.files import Json, read_object, write_atomically
from sagemaker_byoc.contract.variables import BASE_DIR
from sagemaker_byoc.monitor import jobs
from sagemaker_byoc.monitor.data.constraints import FILE as CONSTRAINTS
from sagemaker_byoc.monitor.data.constraints import CategoryMethod
from sagemaker_byoc.monitor.data.statistics import FILE as STATISTICS
from sagemaker_byoc.monitor.explanation import listed
from sagemaker_byoc.monitor.inputs import scripts
from sagemaker_byoc.monitor.inputs.layout import Outputs
from sagemaker_byoc.monitor.inputs.streams import EmptyError, Window
from sagemaker_byoc.monitor.inputs.tables import Format
from sagemaker_byoc.monitor.jobs import Documents, Outcome
from sagemaker_byoc.monitor.places import Input, Places
from sagemaker_byoc.monitor.predictions import Attributes
from sagemaker_byoc.monitor.scores import Problem

ROOT = Path("/opt/ml")
LONGEST_MESSAGE = 1024
"""Characters of ExitMessage, in the service model."""
_FORMATS = "sagemakerCaptureJson, csv, json, parquet"


@dataclass(frozen=True, slots=True)
class Request:
    """The environment, parsed. `baseline` None: this job makes one."""

    data: Input
    output: Path
    baseline: Documents | None
    quality: Attributes | None
    postprocess: Path | None
    dimensions: Mapping[str, str]
    emits_metrics: bool


def main(environment: Mapping[str, str] | None = None, root: Path | None = None) -> int:
    """Return the exit code: 0 with or without violations, 4 without any data, 1 if the job itself
    failed. Never raises."""
    given = os.environ if environment is None else environment
    root = root or Path(given.get(BASE_DIR) or ROOT)
    try:
        found = _run(parse(_environment(given, root)), root)
    except EmptyError as error:
        return _end(root, f"Failed: {error}", error.exit_code)
    except ByocError as error:
        return _end(root, f"Failed: {error}", 1)
    except Exception as error:  # noqa: BLE001 - the message is all that the platform shows
        return _end(root, f"Failed: {type(error).__name__}: {error}", 1)
    violations = found.violations if found is not None else 0
    text = "Completed: Job completed successfully with no violations."
    if violations:
        text = f"CompletedWithViolations: Job completed successfully with {violations} violations."
    if found is not None and found.not_compared:
        text += f" Not compared: {found.not_compared} (explanation.json says why)."
    return _end(root, text, 0)


def _end(root: Path, message: str, code: int) -> int:
    print(message, flush=True)  # noqa: T201 - the job's log
    write_atomically(root / "output" / "message", message[:LONGEST_MESSAGE].encode())
    return code


def _environment(given: Mapping[str, str], root: Path) -> dict[str, str]:
    """Return the variables, which override those in the job's description."""
    described = (read_object(root / "config" / "processingjobconfig.json") or {}).get("Environment")
    listed = described.items() if isinstance(described, dict) else ()
    return {key: str(value) for key, value in listed} | dict(given)


def parse(given: Mapping[str, str]) -> Request:
    """Parse the variables. Raise RequestError, naming the variable."""
    form, outputs = _format(given)
    baseline: Documents | None = None
    if path := given.get("baseline_constraints"):
        baseline = {
            CONSTRAINTS: _baseline(path, CONSTRAINTS),
            STATISTICS: _baseline(given.get("baseline_statistics"), STATISTICS),
        }
    script = given.get("record_preprocessor_script")
    names = {
        "Endpoint": given.get("sagemaker_endpoint_name"),
        "MonitoringSchedule": given.get("sagemaker_monitoring_schedule_name"),
    }
    post = given.get("post_analytics_processor_script")
    return Request(
        data=Input(
            place=_required(given, "dataset_source"),
            form=form,
            outputs=outputs,
            window=_window(given),
            preprocess=Path(script) if script else None,
            about={
                "baseline": given.get("baseline_constraints", ""),
                "endpoint": given.get("sagemaker_endpoint_name", ""),
                "schedule": given.get("sagemaker_monitoring_schedule_name", ""),
            },
        ),
        output=Path(_required(given, "output_path")),
        baseline=_with_method(baseline, given.get("categorical_drift_method")),
        quality=_quality(given),
        postprocess=Path(post) if post else None,
        dimensions={name: value for name, value in names.items() if value},
        emits_metrics=given.get("publish_cloudwatch_metrics") == "Enabled",
    )


def _required(given: Mapping[str, str], name: str) -> str:
    if not given.get(name):
        raise RequestError(f"the variable {name} is not set", hint="Set it as the guide has it")
    return given[name]


def _format(given: Mapping[str, str]) -> tuple[Format | None, Outputs]:
    text = given.get("dataset_format") or "{}"
    try:
        found: dict[str, dict[str, Any] | None] = json.loads(text)
        kind, given_options = next(iter(found.items()), (None, None))
        options = given_options or {}
        position = Outputs(options.get("output_columns_position", "AUTO"))
    except (ValueError, AttributeError) as error:
        raise RequestError(
            f"dataset_format is {text[:200]!r}", hint='Write as {"csv": {"header": true}}'
        ) from error
    if kind is None:
        return None, position
    if kind == "sagemakerCaptureJson":
        return Format.CAPTURE, position
    if kind == "json":
        is_lines = str(options.get("line", options.get("lines", True))).lower() == "true"
        return Format.JSON_LINES if is_lines else Format.JSON, position
    if kind == "parquet":
        return Format.PARQUET, position
    if kind == "csv":
        has_header = str(options.get("header", True)).lower() == "true"
        return Format.CSV if has_header else Format.BARE_CSV, position
    raise RequestError(f"dataset_format {kind!r} can't be read here", hint=f"Use one of {_FORMATS}")


def _window(given: Mapping[str, str]) -> Window | None:
    times = []
    for name in ("start_time", "end_time"):
        text = given.get(name)
        if not text:
            return None
        try:
            time = datetime.fromisoformat(text.replace(" ", ""))
        except ValueError as error:
            raise RequestError(
                f"{name} is {text!r}, not a time", hint="Write 2019-12-01T15:20:00Z"
            ) from error
        times.append(time if time.tzinfo else time.replace(tzinfo=UTC))
    return Window(*times)


def _baseline(path: str | None, file: str) -> dict[str, Any] | None:
    """Read a file, given by its path or its folder's."""
    if not path:
        return None
    place = Path(path) / file if Path(path).is_dir() else Path(path)
    found = read_object(place)
    if found is None:
        raise RequestError(f"{place} does not exist", hint="Check the job's inputs")
    return found


def _with_method(baseline: Documents | None, method: str | None) -> Documents | None:
    """Return the baseline with the environment's `categorical_drift_method`, if that is set."""
    if baseline is None or not method:
        return baseline
    try:
        chosen = CategoryMethod(method).value
    except ValueError as error:
        raise RequestError(
            f"categorical_drift_method is {method!r}", hint="Write LInfinity or ChiSquared"
        ) from error
    config = (baseline[CONSTRAINTS] or {}).setdefault("monitoring_config", {})
    config.setdefault("distribution_constraints", {})["categorical_drift_method"] = chosen
    return baseline


def _quality(given: Mapping[str, str]) -> Attributes | None:
    problem = given.get("problem_type")
    if not problem:
        return None
    try:
        kind, limit = Problem(problem), float(given.get("probability_threshold_attribute") or 0.5)
    except ValueError as error:
        raise RequestError(
            f"problem_type or probability_threshold_attribute: {error}",
            hint=f"Use one of {', '.join(Problem)}, and a number",
        ) from error
    return Attributes(
        problem=kind,
        label=given.get("ground_truth_attribute") or None,
        prediction=given.get("inference_attribute") or None,
        probability=given.get("probability_attribute") or None,
        threshold=limit,
    )


def _run(request: Request, root: Path) -> jobs.Found | None:
    """Do the job. Return what a run found; None if it made a baseline."""
    places, output = Places(), str(request.output)
    found: jobs.Found | None = None
    if request.baseline is None:
        made = jobs.make_baseline(places, request.data, request.quality, output)
        for line in made.get("notices") or ():
            print(line, flush=True)  # noqa: T201 - the job's log
        for name, text in (made.get("warnings") or {}).items():
            print(f"{listed([name])}: {text}", flush=True)  # noqa: T201 - the job's log
    else:
        found = jobs.run(places, request.data, request.baseline, request.quality, output)
        if request.emits_metrics and found.outcome is not None:
            text = metric_lines(found.outcome, request.dimensions)
            write_atomically(root / "output" / "metrics" / "cloudwatch" / METRICS, text)
    if request.postprocess is not None:
        scripts.run_postprocessor(request.postprocess)
    return found


# ── metrics for CloudWatch ──


METRICS = "cloudwatch_metrics.jsonl"
_FORBIDDEN = re.compile(r"[^\x20-\x7e]|^:")
_LONGEST_METRIC = 255


def metric_lines(outcome: Outcome, dimensions: Mapping[str, str]) -> bytes:
    """Return metrics of the features whose `emit_metrics` is on."""
    shared: dict[str, Json] = {
        "Timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
    }
    found = (
        {"MetricName": _metric_name(name), **shared, **value}
        for name, value in _metric_values(outcome)
    )
    return b"".join(json.dumps(each).encode() + b"\n" for each in found)


def _metric_values(outcome: Outcome) -> Iterator[tuple[str, dict[str, Json]]]:
    constraints = outcome.constraints
    for name, column in outcome.profile.columns.items():
        constraint = constraints.features.get(name)
        config = constraint.config if constraint is not None else constraints.config
        if not config.emits_metrics:
            continue
        moments = column.moments
        is_numeric = (column.kind or column.inferred).is_numeric
        if is_numeric and moments.count and math.isfinite(moments.total):
            yield (
                f"feature_data_{name}",
                {
                    "StatisticValues": {
                        "SampleCount": float(moments.count),
                        "Sum": moments.total,
                        "Minimum": moments.least,
                        "Maximum": moments.most,
                    }
                },
            )
        yield f"feature_non_null_{name}", {"Value": column.completeness}
        drift = outcome.findings.drifts.get(name)
        if drift is not None and math.isfinite(drift.distance):
            yield f"feature_baseline_drift_{name}", {"Value": drift.distance}


def _metric_name(text: str) -> str:
    """Return a name that CloudWatch takes: 255 printable ASCII characters."""
    return _FORBIDDEN.sub("_", text)[:_LONGEST_METRIC]
