"""Everything that is decided before the user's program starts, and the line that reports it.

It begins with the settings. Each is a variable of the container, BYOC_X, or a hyperparameter of the
job, sagemaker_byoc_x. The hyperparameter wins, as it does for sagemaker_program: it was given for
this one job.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract import variables
from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.lifecycle import (
    TRAIN_STOP_GRACE,
    TRAIN_STOP_RESERVE,
    clip,
    first_names,
)
from sagemaker_byoc.contract.machine import Hardware, find_hardware
from sagemaker_byoc.contract.masking import shown_values
from sagemaker_byoc.contract.paths import Tree, home_variables
from sagemaker_byoc.contract.training.debugger import hook_file
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters
from sagemaker_byoc.contract.training.job import (
    POINTER,
    Command,
    Job,
    fit,
    size_of,
    training_environment,
)
from sagemaker_byoc.contract.variables import (
    NPROC,
    STOP_GRACE,
    TORCHRUN_ARGS,
    WARM_POOL_CACHE,
    WATCH,
)
from sagemaker_byoc.training.supervisor.process.child import Program
from sagemaker_byoc.training.supervisor.program.arguments import arguments_for
from sagemaker_byoc.training.supervisor.program.entry_point import (
    MODULE,
    command,
    find_entry,
    import_folders,
    source_file,
)
from sagemaker_byoc.training.supervisor.program.source import Source, find_source
from sagemaker_byoc.training.supervisor.ranks.hosts import (
    PET_NPROC,
    PET_RENDEZVOUS,
    master_variables,
)

# Hyperparameters of the SageMaker SDK. They ask for several processes per host, or for launchers
# that this image does not have.
ENABLED = ("sagemaker_torch_distributed_enabled", "sagemaker_pytorch_ddp_enabled")
UNSUPPORTED = (
    "sagemaker_mpi_enabled",
    "sagemaker_distributed_dataparallel_enabled",
    "sagemaker_pytorch_xla_multi_worker_enabled",
)
HYPERPARAMETER_PREFIX = "sagemaker_"
OWN_PREFIX = f"{HYPERPARAMETER_PREFIX}byoc_"
NO = frozenset({"", "0", "false", "no", "off"})
DEFAULT_GRACE = float(TRAIN_STOP_GRACE.value - TRAIN_STOP_RESERVE.value)
BANNER_LIMIT = 2000
SHOWN, NAME = 10, 60
MOST_BYTES = 6 * 1024 * 1024
"""Most bytes of arguments and variables, however large the stack is (Linux: 3/4 of _STK_LIM)."""
SHUTDOWN_TIMEOUT = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
"""Seconds from SIGTERM until torchrun kills its ranks; 30 without it (torch 2.12 and later)."""
CACHE_FOLDERS = {"TORCHINDUCTOR_CACHE_DIR": "torchinductor", "TRITON_CACHE_DIR": "triton"}
SITE = Path(__file__).parents[1] / "site"
"""Its sitecustomize completes every Python process that imports torch."""


class Settings:
    """The settings of a job, from its hyperparameters and the container's variables."""

    def __init__(self, hyperparameters: Hyperparameters, environ: Mapping[str, str]) -> None:
        self._hyperparameters = hyperparameters
        self.environ = environ

    def text(self, name: str) -> str | None:
        key = HYPERPARAMETER_PREFIX + name.lower()
        return self._hyperparameters.text(key) or self.environ.get(name) or None

    def flag(self, name: str) -> bool:
        return (self.text(name) or "").strip().lower() not in NO

    def seconds(self, name: str, default: float) -> float:
        text = self.text(name)
        if text is None:
            return default
        try:
            seconds = float(text)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < float("inf"):
            raise ContractError(
                where=name, what=f"is {text!r}", hint="Give a number of seconds, such as 110"
            )
        return seconds

    def misspelt(self) -> list[str]:
        """Return a line for each variable and each hyperparameter that looks misspelt."""
        keys = {
            key.removeprefix(HYPERPARAMETER_PREFIX).upper(): key
            for key in self._hyperparameters.raw
            if key.startswith(OWN_PREFIX)
        }
        return variables.warnings(self.environ, variables.TRAIN) + [
            f"hyperparameter {keys[name]} is not known; did you mean "
            f"{HYPERPARAMETER_PREFIX}{meant.lower()}?"
            for name, meant in variables.misspelt(keys, variables.TRAIN).items()
        ]

    @property
    def asks_for_ranks(self) -> bool:
        """Whether the job is to run as ranks rather than as one plain process per host."""
        return (
            any(map(self.text, (NPROC, TORCHRUN_ARGS)))
            or any(map(self.environ.get, (PET_NPROC, PET_RENDEZVOUS)))
            or any(map(self.is_enabled, (*ENABLED, *UNSUPPORTED)))
        )

    def is_enabled(self, hyperparameter: str) -> bool:
        """Return whether a switch of the SageMaker SDK is on, such as those of ENABLED."""
        return (self._hyperparameters.text(hyperparameter) or "").lower() == "true"


@dataclass(frozen=True, slots=True)
class Plan:
    job: Job
    settings: Settings
    source: Source
    entry: str
    program: Program
    hardware: Hardware
    stop_grace: float
    warnings: tuple[str, ...] = ()


def make_plan(job: Job, environ: Mapping[str, str]) -> Plan:
    """Return the plan; raise ContractError for whatever keeps the program from starting."""
    settings = Settings(job.hyperparameters, environ)
    stop_grace = settings.seconds(STOP_GRACE, DEFAULT_GRACE)
    try:
        source = find_source(job, environ)
        entry = find_entry(job, environ, source.folder)
        started = command(source.folder, entry)
    except OSError as error:
        raise ContractError(
            where=f"program {_named([str(error.filename)])}",
            what=f"can't be looked at ({error.strerror})",
            hint="Correct the name, or make the code readable for the container's user",
        ) from error
    arguments = arguments_for(job.hyperparameters, source_file(source.folder, entry))
    hardware = find_hardware(environ)
    environment = training_environment(
        job, Command(entry.removeprefix(MODULE), source.folder, arguments), hardware, environ
    )
    environment |= master_variables(job, environ)
    words = (*started, *arguments)
    passed, left_out = fit(environment, _room(words, environ))
    own = {**passed, **home_variables(environ), **_watch_variable(job.tree, settings)}
    defaults = {SHUTDOWN_TIMEOUT: f"{stop_grace:.0f}", **cache_variables(environ)}
    return Plan(
        job=job,
        settings=settings,
        source=source,
        entry=entry,
        program=Program(
            command=words,
            folder=source.folder,
            environment=_surround(own, environ, defaults, import_folders(source.folder)),
        ),
        hardware=hardware,
        stop_grace=stop_grace,
        warnings=(*settings.misspelt(), *_warnings(job, left_out)),
    )


def _room(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Return how many bytes our variables may take; a program needs some to add its own."""
    limit = min(os.sysconf("SC_ARG_MAX"), MOST_BYTES) * 7 // 8
    texts = [*words, *(f"{name}={value}" for name, value in environ.items())]
    return limit - sum(size_of(text) + POINTER for text in texts)


def _warnings(job: Job, left_out: Sequence[str]) -> Iterator[str]:
    """Yield a line for what the program does not get as it was written."""
    path = job.tree.hyperparameters_file
    if job.hyperparameters.converted:
        yield (
            f"{path}: {_named(job.hyperparameters.converted)} are not strings, which SageMaker "
            "always writes; their JSON text is used"
        )
    if left_out:
        yield (
            f"too long for the program's environment, so left out: {_named(left_out)}; "
            f"{job.tree.config} has the same"
        )


def _named(names: Sequence[str]) -> str:
    return first_names([n if len(n) <= NAME else f"{n[:NAME]}…" for n in names], SHOWN)


def banner(plan: Plan) -> str:
    """Return the line about the start, without secrets."""
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
    """Make the folders that a program writes to; raise ContractError if that fails."""
    for folder in tree.written_by_training:
        problem = why_not_writable(folder)
        if problem:
            raise ContractError(
                where=str(folder),
                what=problem,
                hint="Mount it writable (no :ro) and owned by the container's user, or run as root",
            )


def why_not_writable(folder: Path) -> str | None:
    """Make the folder if it is missing; return what keeps it from being written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"can't be made ({error.strerror})"
    return None if os.access(folder, os.W_OK | os.X_OK) else "can't be written to"


def _surround(
    contract: Mapping[str, str],
    environ: Mapping[str, str],
    defaults: Mapping[str, str],
    folders: tuple[Path, ...],
) -> dict[str, str]:
    """Return the whole environment of the program; the user's own variables stay in it."""
    inherited = environ.get("PYTHONPATH")
    places = [str(SITE), *map(str, folders), *([inherited] if inherited else [])]
    return {
        "PYTHONUNBUFFERED": "1",  # else lines come in bursts of 8 KiB, after a kill not at all
        **defaults,
        **environ,
        **contract,
        "PYTHONPATH": os.pathsep.join(places),
    }


def _watch_variable(tree: Tree, settings: Settings) -> Mapping[str, str]:
    """Return the variable that makes `training/site` load the watch; it is "" if switched off."""
    text = settings.text(WATCH)
    if text is None and not hook_file(tree, settings.environ).is_file():
        return {}
    if text is not None and not settings.flag(WATCH):
        return {WATCH: ""}
    return {WATCH: text or "1"}


def cache_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return defaults for the caches of compilers; none without a warm pool."""
    pool = environ.get(WARM_POOL_CACHE)
    return {name: f"{pool}/{folder}" for name, folder in CACHE_FOLDERS.items()} if pool else {}
