"""`byoc runs`: what was tried so far, and what differed."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from operator import itemgetter
from pathlib import Path

from sagemaker_byoc.cli import console
from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.local.errors import RequestError
from sagemaker_byoc.local.job_runs import is_region, region_runs
from sagemaker_byoc.local.runs import Run, find_runs, is_gain
from sagemaker_byoc.local.state import default_state

HELP = "List the runs of a folder, or compare some of them."
ABOUT_THE_MACHINE = frozenset({"step_ms", "memory_gb", "data_wait_ms", "step"})
COLUMNS = 6
"""Metrics and parameters of a list at most; a comparison has all."""
WIDEST = 28


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders",
        type=Path,
        nargs="*",
        metavar="FOLDER",
        help="of jobs, of a region's state, of logs (default: byoc-jobs, and the default region's)",
    )
    parser.add_argument(
        "--compare", nargs="+", metavar="NAME", help="only these, side by side, all that differs"
    )
    parser.add_argument("--sort", metavar="METRIC", help="the best of this metric first")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")


def run(arguments: argparse.Namespace) -> int:
    folders = arguments.folders or [one for one in _default_folders() if one.is_dir()]
    runs = [one for folder in folders for one in _runs_of(folder)]
    runs.sort(key=lambda one: (one.record.started, one.record.name))
    if arguments.compare:
        runs = _named(runs, arguments.compare)
    if arguments.sort:
        runs = _sorted(runs, arguments.sort)
    if arguments.json:
        console.result(json.dumps([_document(one) for one in runs], indent=2))
    elif not runs:
        shown = ", ".join(map(str, folders or _default_folders()))
        console.detail(f"{shown} holds no run; Track writes one, and each job of a region is one")
    elif arguments.compare:
        console.result(_table(_comparison(runs)))
    else:
        console.result(_table(_list(runs)))
    return 0


def _default_folders() -> tuple[Path, Path]:
    return Path("byoc-jobs"), default_state()


def _runs_of(folder: Path) -> Iterable[Run]:
    return region_runs(folder) if is_region(folder) else find_runs(folder)


def _named(runs: Sequence[Run], names: Iterable[str]) -> list[Run]:
    known = {one.record.name: one for one in runs}
    missing = [name for name in names if name not in known]
    if missing:
        shown = ", ".join(known) or "none"
        raise RequestError(f"there is no run {missing[0]!r}", cure=f"Name some of: {shown}")
    return [known[name] for name in names]


def _sorted(runs: Sequence[Run], metric: str) -> list[Run]:
    if not any(metric in one.record.metrics for one in runs):
        names = sorted({name for one in runs for name in one.record.metrics})
        raise RequestError(
            f"no run has a metric {metric!r}", cure=f"Name one of: {', '.join(names) or 'none'}"
        )
    best = [(one.best(metric), one) for one in runs]
    have = [(value, one) for value, one in best if value is not None]
    have.sort(key=itemgetter(0), reverse=is_gain(metric))
    return [one for _, one in have] + [one for value, one in best if value is None]


def _list(runs: Sequence[Run]) -> list[list[str]]:
    metrics = _names(one.record.metrics for one in runs)[:COLUMNS]
    parameters = _differing(runs)[:COLUMNS]
    rows = [["run", "status", "started (UTC)", "took", "code", *parameters, *metrics]]
    for one in runs:
        record = one.record
        rows.append(
            [
                record.name,
                record.status or "-",
                time.strftime("%Y-%m-%d %H:%M", time.gmtime(record.started)),
                _took(one),
                record.commit[:9] + ("+" if record.commit.endswith("-dirty") else "") or "-",
                *(_shown(record.parameters.get(name)) for name in parameters),
                *(_shown(record.metrics.get(name)) for name in metrics),
            ]
        )
    return rows


def _comparison(runs: Sequence[Run]) -> list[list[str]]:
    rows = [["", *(one.record.name for one in runs)]]
    rows.append(["status", *(one.record.status or "-" for one in runs)])
    rows.append(["took", *(_took(one) for one in runs)])
    rows.append(["code", *(one.record.commit or "-" for one in runs)])
    rows.append(["image", *(one.record.image or "-" for one in runs)])
    rows += [
        [name, *(_shown(one.record.parameters.get(name)) for one in runs)]
        for name in _differing(runs)
    ]
    for name in _names(one.record.metrics for one in runs):
        rows.append([name, *(_shown(one.record.metrics.get(name)) for one in runs)])
        if any(len(one.points.get(name, ())) > 1 for one in runs):
            rows.append([f"  best {name}", *(_shown(one.best(name)) for one in runs)])
    return rows


def _names(documents: Iterable[Iterable[str]]) -> list[str]:
    names = dict.fromkeys(name for document in documents for name in document)
    return [name for name in names if name not in ABOUT_THE_MACHINE]


def _differing(runs: Sequence[Run]) -> list[str]:
    names = dict.fromkeys(name for one in runs for name in one.record.parameters)
    if len(runs) < 2:
        return [*names]
    return [
        name
        for name in names
        if len({json.dumps(one.record.parameters.get(name)) for one in runs}) > 1
    ]


def _took(run: Run) -> str:
    record = run.record
    if record.ended is None:
        return "-"
    seconds = record.ended - record.started
    return f"{seconds:.1f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _shown(value: Json) -> str:
    if value is None:
        return "-"
    text = f"{value:.5g}" if isinstance(value, float) else str(value)
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _document(run: Run) -> dict[str, Json]:
    record = run.record
    return {
        "name": record.name,
        "status": record.status,
        "started": record.started,
        "ended": record.ended,
        "parameters": dict(record.parameters),
        "commit": record.commit,
        "image": record.image,
        "metrics": dict(record.metrics),
        "artifacts": [one.document() for one in record.artifacts],
        "place": str(run.place),
    }
