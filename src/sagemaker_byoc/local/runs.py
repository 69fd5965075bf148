"""The runs that a folder holds: of `byoc train`, of the region's object store, or of any log.

A run is a run.json with its metrics.jsonl, in a folder or in a job's output.tar.gz; or, for a
program that only prints, a *.log beside a metric_definitions.json.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sagemaker_byoc.contract.errors import ContractError, DocumentError
from sagemaker_byoc.contract.metric_lint import lint, values
from sagemaker_byoc.contract.runs import DEFINITIONS_FILE, METRICS_FILE, RUN_FILE, RunRecord

ARCHIVE = "output.tar.gz"
GAINS = ("acc", "auc", "f1", "precision", "recall", "per_s", "mfu")
MOST_FILES = 100_000
MOST_BYTES = 64 << 20
"""Of one member of an archive, or one log."""


@dataclass(frozen=True, slots=True)
class Run:
    record: RunRecord
    place: Path
    points: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """All values of each metric, in the order of the steps."""

    def best(self, metric: str) -> float | None:
        """The smallest; of a gain the largest."""
        last = self.record.metrics.get(metric)
        known = self.points.get(metric) or (() if last is None else (last,))
        points = [value for value in known if value == value]  # noqa: PLR0124 - NaN
        if not points:
            return None
        return max(points) if is_gain(metric) else min(points)


def is_gain(metric: str) -> bool:
    """Whether more of it is better, by its name."""
    return any(word in metric.lower() for word in GAINS)


def find_runs(folder: Path) -> list[Run]:
    """All of them, the oldest first; a broken one raises DocumentError that names it."""
    if not folder.is_dir():
        raise ContractError(
            where=str(folder), what="is not a folder", cure="Name one that jobs wrote into"
        )
    found = [run for path in _files(folder) if (run := _run(path)) is not None]
    return sorted(found, key=lambda run: (run.record.started, run.record.name))


def _files(folder: Path) -> Iterator[Path]:
    count = 0
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            count += 1
            if count > MOST_FILES:
                return
            yield Path(parent, name)


def _run(path: Path) -> Run | None:
    if path.name == RUN_FILE:
        record = RunRecord.read(path)
        metrics = path.with_name(METRICS_FILE)
        text = metrics.read_text("utf-8") if metrics.is_file() else ""
        return None if record is None else _with_points(record, path.parent, text)
    if path.name == ARCHIVE:
        return from_archive(path)
    if path.suffix == ".log" and not path.with_name(RUN_FILE).exists():
        definitions = path.with_name(DEFINITIONS_FILE)
        return _from_log(path, definitions) if definitions.is_file() else None
    return None


def from_archive(path: Path) -> Run | None:
    """None where it holds no run."""
    texts: dict[str, str] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if name in {RUN_FILE, METRICS_FILE} and member.isfile():
                    file = archive.extractfile(member)
                    texts[name] = file.read(MOST_BYTES).decode("utf-8", "replace") if file else ""
    except (OSError, tarfile.TarError, EOFError) as error:
        raise DocumentError(
            where=str(path), what=f"can't be read ({error})", cure="Remove it, or name a folder"
        ) from error
    if RUN_FILE not in texts:
        return None
    try:
        document = json.loads(texts[RUN_FILE])
    except ValueError as error:
        raise DocumentError(
            where=f"{path}: {RUN_FILE}", what=f"is not JSON ({error})", cure="Remove it"
        ) from error
    record = RunRecord.parse(document if isinstance(document, dict) else {}, f"{path}: {RUN_FILE}")
    return _with_points(record, path, texts.get(METRICS_FILE, ""))


def _with_points(record: RunRecord, place: Path, text: str) -> Run:
    points: dict[str, list[float]] = {}
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # a job that was killed on a full disk
        for name, value in row.items() if isinstance(row, dict) else ():
            if name != "step" and isinstance(value, int | float):
                points.setdefault(name, []).append(float(value))
    last = {name: found[-1] for name, found in points.items()}
    return Run(replace(record, metrics={**last, **record.metrics}), place, points)


def _from_log(path: Path, definitions: Path) -> Run:
    """What SageMaker would have taken from the printed lines."""
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = file.read(MOST_BYTES).splitlines()
    try:
        listed = json.loads(definitions.read_text("utf-8"))
    except ValueError as error:
        raise DocumentError(
            where=str(definitions), what=f"is not JSON ({error})", cure="Write a list"
        ) from error
    broken = [problem for problem in lint(listed, []) if "greedy" not in problem.what]
    if broken:
        raise DocumentError(
            where=str(definitions), what=str(broken[0]), cure="Correct the definition"
        )
    points = {one["Name"]: values(one, lines) for one in listed}
    started = path.stat().st_mtime
    last = {name: found[-1] for name, found in points.items() if found}
    record = RunRecord(name=path.stem, status="", started=started, metrics=last)
    return Run(record, path, points)
