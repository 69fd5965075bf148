"""The record of one run: what it was given, what it made, from which code and image.

Ours, beside /opt/ml/output/data/metrics.jsonl, and so inside of a job's output.tar.gz. The names
follow SageMaker's trial components (parameters, artifacts, MetadataProperties.CommitId).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sagemaker_byoc.contract.errors import DocumentError
from sagemaker_byoc.contract.files import (
    Json,
    as_list,
    as_object,
    as_string,
    read_object,
    write_json,
)

RUN_FILE = "run.json"
METRICS_FILE = "metrics.jsonl"
DEFINITIONS_FILE = "metric_definitions.json"
FORMAT = 1
_LAST_TIME = 253_402_300_800
"""The end of the year 9999, in seconds since the epoch."""

GOALS = ("max", "min")
IN_PROGRESS, COMPLETED, FAILED, STOPPED = "InProgress", "Completed", "Failed", "Stopped"


@dataclass(frozen=True, slots=True)
class Artifact:
    name: str
    value: str
    """A path or an address."""
    sha256: str = ""
    size: int = 0
    """Bytes; 0 if it is not a file."""

    def document(self) -> dict[str, Json]:
        return {
            "name": self.name,
            "value": self.value,
            "sha256": self.sha256,
            "size": self.size,
        }


@dataclass(frozen=True, slots=True)
class RunRecord:
    name: str
    status: str = IN_PROGRESS
    started: float = 0.0
    """Seconds since the epoch."""
    ended: float | None = None
    parameters: Mapping[str, Json] = field(default_factory=dict)
    artifacts: Sequence[Artifact] = ()
    commit: str = ""
    """With `-dirty` if the folder held changes."""
    repository: str = ""
    image: str = ""
    """Its digest, or its name if nothing else is known."""
    hosts: int = 1
    processes: int = 1
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The last value of each."""
    goals: Mapping[str, str] = field(default_factory=dict)
    """`max` or `min`, for the metrics of which the program declares which values are better."""

    def write(self, path: Path) -> None:
        write_json(
            path,
            {
                "format": FORMAT,
                "name": self.name,
                "status": self.status,
                "started": self.started,
                "ended": self.ended,
                "parameters": dict(self.parameters),
                "artifacts": [one.document() for one in self.artifacts],
                "commit": self.commit,
                "repository": self.repository,
                "image": self.image,
                "hosts": self.hosts,
                "processes": self.processes,
                "metrics": {
                    name: value if abs(value) < float("inf") else str(value)
                    for name, value in self.metrics.items()
                },
                "goals": dict(self.goals),
            },
        )

    @classmethod
    def read(cls, path: Path) -> RunRecord | None:
        document = read_object(path)
        return None if document is None else cls.parse(document, str(path))

    @classmethod
    def parse(cls, document: Mapping[str, Json], where: str) -> RunRecord:
        """Raise DocumentError for what this version does not know."""
        if document.get("format") != FORMAT:
            raise DocumentError(
                where=where,
                what=f"has format {document.get('format')!r}, and {FORMAT} is known",
                hint="Read it with the version that wrote it",
            )
        return cls(
            name=as_string(document.get("name")),
            status=as_string(document.get("status")),
            started=_time(document.get("started")) or 0.0,
            ended=_time(document.get("ended")),
            parameters=as_object(document.get("parameters")),
            artifacts=[
                Artifact(
                    as_string(one.get("name")),
                    as_string(one.get("value")),
                    as_string(one.get("sha256")),
                    _whole(one.get("size")),
                )
                for one in as_list(document.get("artifacts"))
                if isinstance(one, dict)
            ],
            commit=as_string(document.get("commit")),
            repository=as_string(document.get("repository")),
            image=as_string(document.get("image")),
            hosts=_whole(document.get("hosts")),
            processes=_whole(document.get("processes")),
            metrics={
                name: number
                for name, value in as_object(document.get("metrics")).items()
                if (number := _metric(value)) is not None
            },
            goals={
                name: value
                for name, value in as_object(document.get("goals")).items()
                if isinstance(value, str) and value in GOALS
            },
        )


def _number(value: Json) -> float:
    return _metric(value) or 0.0


def _metric(value: Json) -> float | None:
    """NaN and Infinity are strings, since JSON has no numbers for them. None for what is not a
    number: a metric of 0 would be the best of all losses."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _whole(value: Json) -> int:
    number = _number(value)
    return int(number) if abs(number) < 2**63 else 0


def _time(value: Json) -> float | None:
    """Return a time before the year 10,000; None for anything else."""
    number = None if value is None else _number(value)
    return number if number is not None and 0 <= number < _LAST_TIME else None
