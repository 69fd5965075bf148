"""Tiny training jobs: one that should work, one with a broken request, one that is stopped, one on
two hosts. The user's program is unknown, so each only records what a job would be judged by."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sagemaker_byoc.contract import lifecycle
from sagemaker_byoc.contract.channels import Channel, write_channels
from sagemaker_byoc.contract.cluster import Cluster
from sagemaker_byoc.contract.hyperparameters import Hyperparameters
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.images.trials.container import Container, Content, container, network, wait_for

HOSTS = ("algo-1", "algo-2")
_WARM = 5.0
"""Seconds that a program gets to say its first word before it is stopped."""
_TERM_PATIENCE = 30.0
_SLOWER = 3.0
_BROKEN = b'{"epochs": '


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """What the trial may use; `seconds` bounds each of its jobs on one host."""

    image: str
    channels: Mapping[str, Path] = field(default_factory=dict)
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """How one container ended."""

    refused: str = ""
    """The engine's words where it could not be started."""
    exit_code: int | None = None
    """None where it ran on after the time it was given."""
    seconds: float = 0.0
    failure: bytes | None = None
    model: Mapping[str, bytes] = field(default_factory=dict)
    log: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """What SIGTERM did to a job; `running` says if the job was still there to get it."""

    running: bool
    catches: bool | None = None
    exit_code: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingTrial:
    tiny: Job
    broken: Job | None = None
    stop: Stop | None = None
    hosts: Mapping[str, Job] = field(default_factory=dict)


def run(plan: TrainingPlan, say: Callable[[str], None]) -> TrainingTrial:
    """All jobs, one after the other. Raises MachineError without an engine."""
    say("a tiny training job")
    tiny = _one(plan)
    if tiny.refused:
        return TrainingTrial(tiny=tiny)
    say("a training job with a broken request")
    broken = _one(plan, hyperparameters=_BROKEN)
    say("a training job that is stopped")
    stop = _stopped(plan)
    hosts: Mapping[str, Job] = {}
    if tiny.exit_code == 0:
        say("a training job on two hosts")
        hosts = _several(plan, seconds_for_two(plan, tiny))
    return TrainingTrial(tiny=tiny, broken=broken, stop=stop, hosts=hosts)


def _one(plan: TrainingPlan, hyperparameters: bytes | None = None) -> Job:
    with ExitStack() as stack:
        job = stack.enter_context(_job(plan, HOSTS[0], HOSTS[:1], hyperparameters))
        begun = time.monotonic()
        refused = job.start()
        if refused:
            return Job(refused=refused, log=job.log())
        return _result(job, job.wait(plan.seconds), time.monotonic() - begun)


def _stopped(plan: TrainingPlan) -> Stop:
    with _job(plan, HOSTS[0], HOSTS[:1]) as job:
        job.start()
        wait_for(lambda: 0 if job.log() or job.exit_code() is not None else None, _WARM)
        catches = job.catches_term()
        if job.exit_code() is not None:
            return Stop(running=False)
        begun = time.monotonic()
        job.signal("TERM")
        code = job.wait(_TERM_PATIENCE)
        return Stop(running=True, catches=catches, exit_code=code, seconds=time.monotonic() - begun)


def seconds_for_two(plan: TrainingPlan, alone: Job) -> float:
    """Return the time for two hosts, which share this machine: a slow job is not a hanging one."""
    return max(plan.seconds, _SLOWER * alone.seconds)


def _several(plan: TrainingPlan, seconds: float) -> Mapping[str, Job]:
    with ExitStack() as stack:
        name = stack.enter_context(network())
        jobs = {
            host: stack.enter_context(_job(plan, host, HOSTS, network_name=name)) for host in HOSTS
        }
        for job in jobs.values():
            job.start()
        deadline = time.monotonic() + seconds
        return {
            host: _result(job, job.wait(max(0.0, deadline - time.monotonic())))
            for host, job in jobs.items()
        }


@contextmanager
def _job(
    plan: TrainingPlan,
    host: str,
    hosts: tuple[str, ...],
    hyperparameters: bytes | None = None,
    network_name: str = "",
) -> Iterator[Container]:
    """A container with the whole of /opt/ml in it, not started."""
    options = ["--hostname", host]
    if network_name:
        options += ["--network", network_name, "--network-alias", host]
    variables = {"TRAINING_JOB_NAME": "byoc-check", **plan.environment}
    for name, value in variables.items():
        options += ["--env", f"{name}={value}"]
    with tempfile.TemporaryDirectory(prefix="byoc-check-") as folder:
        tree = Tree(Path(folder))
        for place in tree.written_by_training:
            place.mkdir(parents=True)
        Hyperparameters(plan.hyperparameters).write(tree)
        if hyperparameters is not None:
            tree.hyperparameters_file.write_bytes(hyperparameters)
        write_channels(tree, {name: Channel(name) for name in plan.channels})
        Cluster(current_host=host, hosts=hosts).write(tree)
        files: dict[str, Content] = {"/opt/ml": tree.root}
        files |= {f"/opt/ml/input/data/{name}": path for name, path in plan.channels.items()}
        argument = lifecycle.TRAIN_ARGUMENT.value
        with container(plan.image, argument, options=options, files=files) as job:
            yield job


def _result(job: Container, exit_code: int | None, seconds: float = 0.0) -> Job:
    failure = job.files("/opt/ml/output/failure")
    return Job(
        exit_code=exit_code,
        seconds=seconds,
        failure=next(iter(failure.values()), None),
        model=job.files("/opt/ml/model"),
        log=job.log(),
    )
