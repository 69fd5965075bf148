"""Tiny training jobs: one that should work, one with a broken request, one that is stopped, one on
two hosts. The user's program is unknown, so each only records what a job would be judged by.

All jobs together may run for the plan's seconds. One that still runs when its time is over is
stopped with SIGTERM, and that serves as the job that is stopped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sagemaker_byoc.contract import lifecycle
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import Channel, write_channels
from sagemaker_byoc.contract.training.cluster import Cluster
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters
from sagemaker_byoc.images import scratch
from sagemaker_byoc.images.check.trials.container import (
    Container,
    Content,
    Deadline,
    Trials,
    container,
    network,
    wait_for,
)

HOSTS = ("algo-1", "algo-2")
_WARM = 5.0
"""Seconds that a program gets to say its first word before it is stopped."""
_DROPPED = 0.5
"""Seconds to wait for a program without a handler for SIGTERM, which it is not reached by."""
_GRACE = float(lifecycle.TRAIN_STOP_GRACE.value)
_TO_END = f", and {_GRACE:.0f} s more to end after SIGTERM"
_SLOWER = 3.0
"""Two hosts share this machine: a slow job is not a hanging one."""
_TENFOLD, _BUSY = 10.0, 30.0
"""Multiple of one host's time, and seconds more, after which a job hangs, however busy this
machine is."""
_LEAST = 1.0
"""Seconds below which no job is begun."""
_BROKEN = b'{"epochs": '
_MORE = "give more time with --train-timeout, or less to do with --hp"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """What the trials may use; `seconds` is the time for all their jobs together."""

    image: str
    channels: Mapping[str, Path] = field(default_factory=dict)
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """How one container ended."""

    refused: str = ""
    """The engine's words if it could not be started."""
    exit_code: int | None = None
    """None if it still ran after the time it was given."""
    seconds: float = 0.0
    failure: bytes | None = None
    model: Mapping[str, bytes] = field(default_factory=dict)
    log: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """What SIGTERM did to a job; `running` says if the job was still there to get it.

    `exit_code` is None if it ran on for the 120 s after which SageMaker sends SIGKILL, or if
    process 1 has no handler and so never gets the signal.
    """

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


@dataclass(slots=True)
class _Run:
    """The trials of one image, and what is left of their time."""

    plan: TrainingPlan
    trials: Trials
    clock: Deadline
    stop: Stop | None = None

    def tiny(self) -> Job | None:
        return self._one("a training job", self.clock.left)

    def broken(self) -> Job | None:
        return self._one("a training job with broken hyperparameters", self.clock.left, _BROKEN)

    def _one(self, name: str, seconds: float, hyperparameters: bytes | None = None) -> Job | None:
        if seconds < _LEAST:
            self.trials.notes.append(f"{name}: the time for jobs is over; {_MORE}")
            return None
        return self.trials.tried(
            name, seconds, lambda: self._job_of(seconds, hyperparameters), _TO_END
        )

    def _job_of(self, seconds: float, hyperparameters: bytes | None) -> Job:
        with _job(self.plan, HOSTS[0], HOSTS[:1], hyperparameters) as job:
            refused = job.start()
            if refused:
                return Job(refused=refused, log=job.log())
            begun = time.monotonic()
            code = job.wait(seconds)
            taken = time.monotonic() - begun
            if code is None:
                self.stop = _stop(job)
            return _result(job, code, taken)

    def stopped(self, alone: Job) -> Stop | None:
        seconds = min(_WARM, alone.seconds / 3)
        name = "a training job that is stopped"
        return self.trials.tried(name, seconds, lambda: self._stopped(Deadline(seconds)), _TO_END)

    def _stopped(self, warm: Deadline) -> Stop:
        with _job(self.plan, HOSTS[0], HOSTS[:1]) as job:
            job.start()
            wait_for(lambda: 0 if job.log() or job.exit_code() is not None else None, warm.left)
            # A handler may be installed later than the first word is said.
            wait_for(lambda: None if job.catches_term() is False else 0, warm.left)
            return _stop(job)

    def several(self, alone: Job) -> Mapping[str, Job]:
        name, seconds = "a training job on two hosts", self.clock.left
        if seconds < _SLOWER * alone.seconds:
            self.trials.notes.append(
                f"{name}: one alone took {alone.seconds:.0f} s, and {seconds:.0f} s are left; "
                f"{_MORE}"
            )
            return {}
        hosts = self.trials.tried(name, seconds, lambda: _several(self.plan, seconds)) or {}
        codes = {job.exit_code for job in hosts.values()}
        if None in codes and codes <= {None, 0} and seconds < _TENFOLD * alone.seconds + _BUSY:
            self.trials.unjudged.append(
                f"{name}: they ran on after {seconds:.0f} s, and one alone took "
                f"{alone.seconds:.0f} s; {_MORE}"
            )
            return {}
        return hosts


def run(plan: TrainingPlan, trials: Trials) -> TrainingTrial | None:
    """Run all jobs, one after the other; return None if not even the first could be judged."""
    jobs = _Run(plan, trials, Deadline(plan.seconds))
    tiny = jobs.tiny()
    if tiny is None:
        return None
    if tiny.refused:
        return TrainingTrial(tiny=tiny)
    if tiny.exit_code is None:
        trials.notes.append(
            f"how a job ends, broken hyperparameters, several hosts: the job still ran after "
            f"{tiny.seconds:.0f} s; {_MORE}"
        )
        return TrainingTrial(tiny=tiny, stop=jobs.stop)
    broken = jobs.broken()
    stop = jobs.stop or jobs.stopped(tiny)
    hosts = jobs.several(tiny) if tiny.exit_code == 0 else {}
    return TrainingTrial(tiny=tiny, broken=broken, stop=stop, hosts=hosts)


def _stop(job: Container) -> Stop:
    is_dropped = job.catches_term() is False
    if job.exit_code() is not None:
        return Stop(running=False)
    begun = job.signal("TERM")
    code = job.wait(_DROPPED if is_dropped else _GRACE)
    if is_dropped and code is not None:  # it ended by itself, or a handler came at the last moment
        return Stop(running=False)
    return Stop(
        running=True,
        catches=False if is_dropped else None,
        exit_code=code,
        seconds=time.monotonic() - begun,
    )


def _several(plan: TrainingPlan, seconds: float) -> Mapping[str, Job]:
    with ExitStack() as stack:
        name = stack.enter_context(network())
        jobs = {
            host: stack.enter_context(_job(plan, host, HOSTS, network_name=name)) for host in HOSTS
        }
        deadline = Deadline(seconds)
        # At once, as near as can be: the name of a host that has ended is gone.
        with ThreadPoolExecutor(len(jobs)) as threads:
            list(threads.map(Container.start, jobs.values()))
        return {host: _result(job, job.wait(deadline.left)) for host, job in jobs.items()}


@contextmanager
def _job(
    plan: TrainingPlan,
    host: str,
    hosts: tuple[str, ...],
    hyperparameters: bytes | None = None,
    network_name: str = "",
) -> Iterator[Container]:
    """Make a container with the whole of /opt/ml in it, not started."""
    options = ["--hostname", host]
    if network_name:
        options += ["--network", network_name, "--network-alias", host]
    variables = {"TRAINING_JOB_NAME": "byoc-check", **plan.environment}
    for name, value in variables.items():
        options += ["--env", f"{name}={value}"]
    with scratch.scratch() as folder:
        tree = Tree(folder)
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
    return Job(
        exit_code=exit_code,
        seconds=seconds,
        failure=job.file("/opt/ml/output/failure"),
        model=job.files("/opt/ml/model"),
        log=job.log(),
    )
