"""A run: the record of what it was given and made, its metric lines, and their MetricDefinitions.

The record is ours, beside /opt/ml/output/data/metrics.jsonl, and so inside of a job's
output.tar.gz. Its names follow SageMaker's trial components (parameters, artifacts,
MetadataProperties.CommitId).

A metric line is `name=value; name=value;` with any text before it. SageMaker searches each
definition's regex in every log line and keeps group 1 as a float (developer guide:
training-metrics).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sagemaker_byoc.contract import facts
from sagemaker_byoc.contract.errors import ContractError, DocumentError
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
        """Return the record. Raise DocumentError if this version does not know its format."""
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
    """Return the number, None if `value` is not one: a metric of 0 would be the best of all losses.

    NaN and Infinity are strings, since JSON has no numbers for them.
    """
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


# ── metric lines ──

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|-?inf"
NAME = r"[A-Za-z_][A-Za-z0-9_.:/\-]*"
PAIR = re.compile(rf"(?:^|\s)({NAME})=({NUMBER});")


def format_line(values: Mapping[str, float]) -> str:
    """Return one log line for `values`, in their order, with the nine digits that a float32 has."""
    return " ".join([f"{checked_name(name)}={value:.9g};" for name, value in values.items()])


def parse_line(line: str) -> dict[str, float]:
    """Return every `name=value;` pair of a log line."""
    return {name: float(value) for name, value in PAIR.findall(line)}


def definition(name: str) -> dict[str, str]:
    """Return the MetricDefinition that finds `name` in lines made by `format_line`."""
    regex = rf"(?:^|\s){re.escape(name)}=({NUMBER});"
    if len(regex) > facts.METRIC_REGEX.value or len(name) > facts.METRIC_NAME.value:
        raise ContractError(
            where=f"metric {name!r}",
            what=f"is longer than SageMaker's limit of {facts.METRIC_REGEX.value} for a regex",
            hint="Use a shorter name",
        )
    return {"Name": name, "Regex": regex}


@functools.lru_cache(1024)
def checked_name(name: object) -> str:
    """Return the name of a metric; raise ContractError for one that no line can hold."""
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise ContractError(
            where=f"metric {name!r}",
            what="is not a legal metric name",
            hint=f"Use letters, digits and . : / - _ as in {NAME}",
        )
    return name


# ── MetricDefinitions ──

GREEDY = re.compile(r"\((?!\?)[^()]*\.[*+](?!\?)[^()]*\)")


@dataclass(frozen=True, slots=True)
class Problem:
    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


def lint(definitions: Sequence[Mapping[str, str]], lines: Iterable[str]) -> list[Problem]:
    """Return all that is wrong with `definitions`, by themselves and on these lines."""
    problems: list[Problem] = []
    if len(definitions) > facts.METRIC_DEFINITIONS.value:
        limit = facts.METRIC_DEFINITIONS.value
        problems.append(Problem("definitions", f"{len(definitions)} of them, the limit is {limit}"))
    kept = [line.rstrip("\n") for line in lines]
    for definition in definitions:
        name, regex = definition.get("Name", ""), definition.get("Regex", "")
        problems += [Problem(name or "(no name)", what) for what in _about(name, regex, kept)]
    return problems


def values(definition: Mapping[str, str], lines: Iterable[str]) -> list[float]:
    """Return what SageMaker takes from the lines: one value per line, of the first match in it."""
    pattern = re.compile(definition["Regex"])
    found = []
    for line in lines:
        match = pattern.search(line)
        number = _float(match.group(1)) if match and pattern.groups else None
        if number is not None:
            found.append(number)
    return found


def _about(name: str, regex: str, lines: list[str]) -> list[str]:
    if not 1 <= len(name) <= facts.METRIC_NAME.value:
        return [f"its name has {len(name)} characters, 1 to {facts.METRIC_NAME.value} are allowed"]
    if not 1 <= len(regex) <= facts.METRIC_REGEX.value:
        return [
            f"its regex has {len(regex)} characters, 1 to {facts.METRIC_REGEX.value} are allowed"
        ]
    try:
        pattern = re.compile(regex)
    except re.error as error:
        return [f"its regex is not valid: {error}"]
    if not pattern.groups:
        return ["its regex has no group: put the number in parentheses"]
    problems = []
    if GREEDY.search(regex):
        problems.append("its group is greedy: write .*? instead of .*, or say what a number is")
    return problems + _on_lines(pattern, lines)


def _on_lines(pattern: re.Pattern[str], lines: list[str]) -> list[str]:
    found = [(line, list(pattern.finditer(line))) for line in lines]
    matching = [(line, matches) for line, matches in found if matches]
    if lines and not matching:
        return [f"it matches none of {len(lines)} lines"]
    problems = []
    for line, matches in matching:
        shown = line if len(line) < 80 else line[:77] + "..."
        if _float(matches[0].group(1)) is None:
            problems.append(f"it takes {matches[0].group(1)!r} for a number in {shown!r}")
        elif len(matches) > 1:
            problems.append(f"it matches {len(matches)} times in {shown!r}: the first one counts")
        elif "\r" in line[: matches[0].start()]:
            problems.append(f"it matches behind a \\r, which SageMaker may cut, in {shown!r}")
        if problems:
            break
    return problems


def _float(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if not math.isinf(value) or "inf" in (text or "").lower() else None
