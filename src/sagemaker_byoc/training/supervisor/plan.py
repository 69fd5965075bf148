"""Everything that is decided before the user's program starts, and the line that reports it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from sagemaker_byoc.contract.environment import training_environment
from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.failure import clip
from sagemaker_byoc.contract.job import Command, Hardware, Job
from sagemaker_byoc.contract.lifecycle import TRAIN_STOP_GRACE, TRAIN_STOP_RESERVE
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.training.supervisor.arguments import arguments_for
from sagemaker_byoc.training.supervisor.hardware import find_hardware
from sagemaker_byoc.training.supervisor.masking import shown_values
from sagemaker_byoc.training.supervisor.program import command, find_entry
from sagemaker_byoc.training.supervisor.source import Source, find_source

STOP_GRACE = "BYOC_STOP_GRACE"
"""Seconds from a stop signal until the program is killed, for where SageMaker's 120 don't hold."""
BANNER_LIMIT = 2000


@dataclass(frozen=True, slots=True)
class Plan:
    job: Job
    source: Source
    entry: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    hardware: Hardware
    stop_grace: float


def make_plan(job: Job, environ: Mapping[str, str]) -> Plan:
    """Raises ContractError for whatever keeps the program from being started."""
    stop_grace = read_stop_grace(environ)
    source = find_source(job, environ)
    entry = find_entry(job, environ, source.folder)
    arguments = arguments_for(job.hyperparameters, source.folder / entry)
    hardware = find_hardware(environ)
    environment = training_environment(
        job, Command(entry, source.folder, arguments), hardware, environ
    )
    return Plan(
        job=job,
        source=source,
        entry=entry,
        command=(*command(source.folder, entry), *arguments),
        environment=_surround(environment, environ, str(source.folder)),
        hardware=hardware,
        stop_grace=stop_grace,
    )


def banner(plan: Plan) -> str:
    """The facts of the start, in one line, without secrets."""
    cluster, hardware = plan.job.cluster, plan.hardware
    own = dict(plan.job.hyperparameters.for_program())
    shown = json.dumps(shown_values(own), ensure_ascii=False, separators=(",", ":"))
    return (
        f"{plan.entry} from {plan.source.folder} ({plan.source.origin}), "
        f"{cluster.current_host} is host {cluster.rank + 1} of {len(cluster.hosts)}, "
        f"{hardware.gpus} GPUs, {hardware.cpus} CPUs, "
        f"hyperparameters {clip(shown, BANNER_LIMIT)}"
    )


def make_folders(tree: Tree) -> None:
    """The folders that a program writes to; an error that says what to do where that fails."""
    for folder in tree.written_by_training:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            problem = None if os.access(folder, os.W_OK | os.X_OK) else "can't be written to"
        except OSError as error:
            problem = f"can't be made ({error.strerror})"
        if problem:
            raise ContractError(
                where=str(folder),
                what=problem,
                cure="Mount it writable (no :ro) and owned by the container's user, or run as root",
            )


def read_stop_grace(environ: Mapping[str, str]) -> float:
    text = environ.get(STOP_GRACE)
    if not text:
        return TRAIN_STOP_GRACE.value - TRAIN_STOP_RESERVE.value
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ContractError(
            where=STOP_GRACE, what=f"is {text!r}", cure="Give a number of seconds, such as 110"
        )
    return seconds


def _surround(
    contract: Mapping[str, str], environ: Mapping[str, str], source: str
) -> dict[str, str]:
    """The program's whole environment. What a user set outside the contract's names stays."""
    inherited = environ.get("PYTHONPATH")
    return {
        "PYTHONUNBUFFERED": "1",  # or lines come in bursts of 8 KiB, and a killed program's never
        **environ,
        **contract,
        "PYTHONPATH": f"{source}{os.pathsep}{inherited}" if inherited else source,
    }
