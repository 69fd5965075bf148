"""`byoc runs`: the runs of a folder, and how they differ."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path

from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.cli.terminal.arguments import HINT
from sagemaker_byoc.contract.errors import ContractError, RequestError
from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.host.recorded_runs import Found, Goal, Run, find_runs, goal_of
from sagemaker_byoc.region.core.state_folder import default_state
from sagemaker_byoc.region.services.sagemaker.training_jobs.job_runs import is_region, region_runs

HELP = "List the runs of a folder, or compare some of them."
ABOUT_THE_MACHINE = frozenset({"step_ms", "memory_gb", "data_wait_ms", "step"})
COLUMNS = 6
"""Metrics and parameters of a list at most; a comparison has all."""
WIDEST = 28
MOST_BROKEN = 20
"""Files that can't be read and are named; the others are counted."""
MOST_NAMED = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders",
        type=Path,
        nargs="*",
        metavar="FOLDER",
        help="folders of jobs, of a region's state or of logs (default: byoc-jobs, and the default "
        "region's)",
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        metavar="NAME",
        help="show only these runs side by side, with all that differs",
    )
    parser.add_argument("--sort", metavar="METRIC", help="sort by this metric, best first")
    parser.add_argument(
        "--goal",
        action="append",
        default=[],
        type=_goal,
        metavar="METRIC=max|min",
        help="which values are better (default: as the program declared it, or by the metric's "
        "name); may be repeated",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document instead of a table"
    )


def _goal(text: str) -> tuple[str, Goal]:
    metric, _, goal = text.rpartition("=")
    try:
        if metric:
            return metric, Goal(goal)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a goal{HINT}write METRIC=max or METRIC=min")


def run(arguments: argparse.Namespace) -> int:
    folders = arguments.folders or [one for one in _default_folders() if one.is_dir()]
    found = [_runs_of(folder) for folder in folders]
    runs = [run for each in found for run in each.runs]
    runs.sort(key=lambda one: (one.record.started, one.record.name))
    _tell_broken([error for each in found for error in each.broken], runs)
    goals = _goals(runs, dict(arguments.goal))
    if arguments.compare:
        runs = _named(runs, arguments.compare)
    if arguments.sort:
        runs = _sorted(runs, arguments.sort, goals)
    if arguments.json:
        document = [_document(one, goals) for one in runs]
        console.result(json.dumps(document, indent=2, allow_nan=False))
    elif not runs:
        shown = " or ".join(map(str, folders or _default_folders()))
        console.detail(f"{shown} holds no run; `byoc train PROGRAM` makes one")
    elif arguments.compare:
        console.result(console.table(_comparison(runs, goals)))
    else:
        console.result(console.table(_list(runs)))
    return 0


def _default_folders() -> tuple[Path, Path]:
    return Path("byoc-jobs"), default_state()


def _runs_of(folder: Path) -> Found:
    return region_runs(folder) if is_region(folder) else find_runs(folder)


def _tell_broken(broken: Sequence[ContractError], runs: Sequence[Run]) -> None:
    """Print what can't be read. Raise the first error only if there is no run at all."""
    if broken and not runs:
        raise broken[0]
    for error in broken[:MOST_BROKEN]:
        console.detail(f"left out: {error.where} {error.what}")
    if len(broken) > MOST_BROKEN:
        console.detail(f"left out: {len(broken) - MOST_BROKEN:,} more")


def _goals(runs: Sequence[Run], given: Mapping[str, Goal]) -> dict[str, Goal | None]:
    """Return each metric's goal: as given here, as a run declares it, or by its name.

    Raise RequestError for a goal of a metric that no run has.
    """
    names = dict.fromkeys(name for one in runs for name in one.record.metrics)
    unknown = [name for name in given if name not in names]
    if unknown and runs:
        raise _no_metric(unknown[0], names)
    declared = {name: Goal(goal) for one in runs for name, goal in one.record.goals.items()}
    known = {**declared, **given}
    return {name: known.get(name) or goal_of(name) for name in names}


def _no_metric(metric: str, names: Iterable[str]) -> RequestError:
    return RequestError(f"no run has a metric {metric!r}", hint=f"Name one of: {_some(names)}")


def _some(names: Iterable[str]) -> str:
    found = sorted({*map(_line, names)})
    more = f" and {len(found) - MOST_NAMED:,} more" if len(found) > MOST_NAMED else ""
    return (", ".join(found[:MOST_NAMED]) or "none") + more


def _named(runs: Sequence[Run], names: Sequence[str]) -> list[Run]:
    """Return all runs of these names: two folders may each hold a run of the same name."""
    known: dict[str, list[Run]] = {}
    for one in runs:
        known.setdefault(one.record.name, []).append(one)
    missing = [name for name in names if name not in known]
    if missing:
        raise RequestError(f"there is no run {missing[0]!r}", hint=f"Name some of: {_some(known)}")
    return [one for name in dict.fromkeys(names) for one in known[name]]


def _sorted(runs: Sequence[Run], metric: str, goals: Mapping[str, Goal | None]) -> list[Run]:
    """Return the runs, best first; those without a number of this metric come last."""
    if metric not in goals:
        raise _no_metric(metric, goals)
    goal = goals[metric]
    if goal is None:
        raise RequestError(
            f"whether more or less of {metric!r} is better is not known",
            hint=f"Add --goal {metric}=max, or --goal {metric}=min",
        )
    best = [(one.best(metric, goal), one) for one in runs]
    have = [(value, one) for value, one in best if value is not None]
    have.sort(key=itemgetter(0), reverse=goal is Goal.MAX)
    return [one for _, one in have] + [one for value, one in best if value is None]


def _list(runs: Sequence[Run]) -> list[list[str]]:
    metrics = _names(one.record.metrics for one in runs)[:COLUMNS]
    parameters = _differing(runs)[:COLUMNS]
    head = map(_shown, (*parameters, *metrics))
    rows = [["run", "status", "started (UTC)", "took", "code", *head]]
    for one in runs:
        record = one.record
        rows.append(
            [
                _shown(record.name or one.place.name),
                _shown(record.status) or "-",
                _started(record.started),
                _took(one),
                record.commit[:9] + ("+" if record.commit.endswith("-dirty") else "") or "-",
                *(_shown(record.parameters.get(name)) for name in parameters),
                *(_shown(record.metrics.get(name)) for name in metrics),
            ]
        )
    return rows


def _comparison(runs: Sequence[Run], goals: Mapping[str, Goal | None]) -> list[list[str]]:
    rows = [["", *(_shown(one.record.name) for one in runs)]]
    rows.append(["status", *(_shown(one.record.status) or "-" for one in runs)])
    rows.append(["took", *(_took(one) for one in runs)])
    rows.append(["code", *(_line(one.record.commit) or "-" for one in runs)])
    rows.append(["image", *(_line(one.record.image) or "-" for one in runs)])
    rows += [
        [_shown(name), *(_shown(one.record.parameters.get(name)) for one in runs)]
        for name in _differing(runs)
    ]
    for name in _names(one.record.metrics for one in runs):
        rows.append([_shown(name), *(_shown(one.record.metrics.get(name)) for one in runs)])
        if not any(len(one.points.get(name, ())) > 1 for one in runs):
            continue
        goal = goals[name]
        if goal is None:  # which value is better is not known: the first stands beside the last
            head, values = "first", [next(iter(one.points.get(name, ())), None) for one in runs]
        else:
            head, values = "best", [one.best(name, goal) for one in runs]
        rows.append([f"  {head} {_shown(name)}", *map(_shown, values)])
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


def _started(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds)) if seconds else "-"


def _took(run: Run) -> str:
    record = run.record
    if record.ended is None:
        return "-"
    seconds = record.ended - record.started
    return f"{seconds:.1f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _line(text: str) -> str:
    """Names and values come from files: a line end in one would break the table."""
    return " ".join(text.split())


def _shown(value: Json) -> str:
    if value is None:
        return "-"
    text = f"{value:.5g}" if isinstance(value, float) else _line(str(value))
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def _document(run: Run, goals: Mapping[str, Goal | None]) -> dict[str, Json]:
    """JSON has no NaN and no infinity: such a metric is null here, and named in `notFinite`."""
    record = run.record
    odd = {name: str(value) for name, value in record.metrics.items() if not math.isfinite(value)}
    best = {name: run.best(name, goal) for name, goal in goals.items() if name in record.metrics}
    return {
        "name": record.name,
        "status": record.status,
        "started": record.started,
        "ended": record.ended,
        "parameters": _plain(dict(record.parameters)),
        "commit": record.commit,
        "image": record.image,
        "metrics": {name: _finite(value) for name, value in record.metrics.items()},
        "notFinite": {**odd},
        "best": {name: _finite(value) for name, value in best.items()},
        "goals": {name: goal for name, goal in goals.items() if name in record.metrics},
        "artifacts": [one.document() for one in record.artifacts],
        "place": str(run.place),
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _plain(value: Json) -> Json:
    """Return the value of a parameter, with numbers that JSON lacks as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value
