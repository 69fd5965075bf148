"""The training jobs of a region as runs, read from its state folder; the region need not run.

What Track left in a job's output is the run. For a program that only prints, the metrics are what
the job's definitions find in its log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract.archives import OUTPUT_ARCHIVE
from sagemaker_byoc.contract.errors import ContractError, DocumentError
from sagemaker_byoc.contract.masking import MASK, is_secret
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters, as_text
from sagemaker_byoc.contract.training.runs import RunRecord, values
from sagemaker_byoc.host.recorded_runs import Found, Run, from_archive, of_job
from sagemaker_byoc.region.core.records import read
from sagemaker_byoc.region.services.logs.log_store import LogStore
from sagemaker_byoc.region.services.s3.store.objects import parse_s3_uri
from sagemaker_byoc.region.services.sagemaker.training_jobs.record import TRAINING_JOB

MOST_LINES = 1_000_000
"""Lines of a job's log that are searched, at most."""
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, re.error)


def is_region(folder: Path) -> bool:
    """Return whether `folder` is a state folder in which jobs have run."""
    return _jobs(folder).is_dir()


def region_runs(state: Path) -> Found:
    """Return the training jobs of a state folder; an unreadable record does not hide the others."""
    found = Found()
    logs = LogStore(state / "logs")
    for path in sorted(_jobs(state).glob("*.json")):
        try:
            found.runs.append(_run(path.stem, read(path), state, logs))
        except ContractError as error:
            found.broken.append(error)
        except _BROKEN as error:
            what = f"can't be read ({type(error).__name__}: {error})"
            found.broken.append(DocumentError(where=str(path), what=what, hint="Remove it"))
    return found


def _run(name: str, document: Mapping[str, Any], state: Path, logs: LogStore) -> Run:
    given = Hyperparameters(document.get("HyperParameters") or {}).for_program()
    algorithm = document.get("AlgorithmSpecification") or {}
    last = {
        one["MetricName"]: float(one["Value"]) for one in document.get("FinalMetricDataList") or ()
    }
    record = RunRecord(
        name=name,
        status=str(document.get("TrainingJobStatus", "")),
        started=_seconds(document.get("TrainingStartTime") or document.get("CreationTime")) or 0.0,
        ended=_seconds(document.get("TrainingEndTime")),
        parameters={key: MASK if is_secret(key) else as_text(raw) for key, raw in given},
        image=str(algorithm.get("TrainingImage", "")),
        metrics=last,
    )
    points = _points(name, algorithm.get("MetricDefinitions") or (), logs)
    archive = _archive(document, state)
    tracked = from_archive(archive) if archive is not None else None
    if tracked is None:
        return Run(record, _jobs(state) / f"{name}.json", points)
    return replace(of_job(record, tracked), points={**points, **tracked.points})


def _points(name: str, definitions: Any, logs: LogStore) -> dict[str, list[float]]:
    """Return all that the job's definitions find, host after host."""
    if not definitions or not logs.has_group(TRAINING_JOB.group):
        return {}
    lines = [
        event.text
        for stream in logs.streams(TRAINING_JOB.group, f"{name}/")
        for event in islice(logs.events(TRAINING_JOB.group, stream), MOST_LINES)
    ]
    found = {one["Name"]: values(one, lines) for one in definitions}
    return {metric: points for metric, points in found.items() if points}


def _archive(document: Mapping[str, Any], state: Path) -> Path | None:
    """Return the job's output archive in the object store's folder, if it is there."""
    output = (document.get("OutputDataConfig") or {}).get("S3OutputPath")
    if not isinstance(output, str):
        return None
    bucket, prefix = parse_s3_uri(output)
    parts = [*filter(None, prefix.split("/")), str(document["TrainingJobName"])]
    path = state.joinpath("s3", bucket, *parts, "output", OUTPUT_ARCHIVE)
    return path if path.is_file() else None


def _jobs(state: Path) -> Path:
    return state / "sagemaker" / TRAINING_JOB.folder


def _seconds(time: Any) -> float | None:
    return time.timestamp() if isinstance(time, datetime) else None
