"""This process in its job: its data, hyperparameters and GPUs, its rank, and its share of the data.

Outside a job it is one process on one host without channels and hyperparameters.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.machine import visible_gpus
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import Channel, Distribution
from sagemaker_byoc.contract.training.cluster import Cluster
from sagemaker_byoc.contract.training.job import TRAINING_JOB_NAME, Job
from sagemaker_byoc.contract.variables import JOB_NAME
from sagemaker_byoc.training.library.schema import parse

Schema = TypeVar("Schema")


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a training job; `name` is empty outside a job."""

    job: Job
    name: str
    place: Place
    gpus: int
    """The number of GPUs that CUDA programs see in this process's environment."""

    @property
    def tree(self) -> Tree:
        return self.job.tree

    @property
    def channels(self) -> Mapping[str, Channel]:
        return self.job.channels

    @property
    def cluster(self) -> Cluster:
        return self.job.cluster

    @property
    def hosts(self) -> tuple[str, ...]:
        return self.job.cluster.hosts

    @property
    def host_rank(self) -> int:
        """This host's index among the hosts of the job, in natural order."""
        return self.job.cluster.rank

    @property
    def rank(self) -> int:
        return self.place.rank

    @property
    def world_size(self) -> int:
        return self.place.world_size

    @property
    def local_rank(self) -> int:
        return self.place.local_rank

    @property
    def local_world_size(self) -> int:
        return self.place.local_world_size

    @property
    def is_main(self) -> bool:
        """Whether this is the one process of the job that writes the model and the metrics."""
        return self.place.rank == 0

    def hyperparameters(self, schema: type[Schema], *, ignore_unknown: bool = False) -> Schema:
        """Return the job's hyperparameters as a dataclass; raise one error that lists all problems.

        Those for SageMaker's toolkit (`sagemaker_…`) are left out.
        """
        return parse(schema, self.job.hyperparameters.raw, ignore_unknown=ignore_unknown)


def job(environ: Mapping[str, str] | None = None) -> Process:
    """Read the job's files and this process's environment, at each call."""
    environ = os.environ if environ is None else environ
    described = Job.read(Tree.from_environ(environ))
    return Process(
        job=described,
        name=_name(described, environ),
        place=_place(environ, described.cluster),
        gpus=len(visible_gpus(environ)),
    )


def _name(described: Job, environ: Mapping[str, str]) -> str:
    return (
        environ.get(TRAINING_JOB_NAME)
        or described.hyperparameters.text("sagemaker_job_name")
        or environ.get(JOB_NAME, "")
    )


def _place(environ: Mapping[str, str], cluster: Cluster) -> Place:
    """Return the place in torchrun's variables; without them, that of one process per host."""
    rank, world_size = _count(environ, "RANK"), _count(environ, "WORLD_SIZE")
    if rank is None and world_size is None:
        return Place(cluster.rank, len(cluster.hosts))
    if rank is None or world_size is None:
        raise ContractError(
            where="RANK and WORLD_SIZE",
            what="are not both set",
            hint="Set both, as torchrun does, or neither",
        )
    local_world_size = _count(environ, "LOCAL_WORLD_SIZE")
    local_rank = _count(environ, "LOCAL_RANK")
    if local_world_size is None:
        local_world_size = Place.uniform(rank, world_size, len(cluster.hosts)).local_world_size
    if local_rank is None:
        local_rank = rank % local_world_size
    return Place(rank, world_size, local_rank, local_world_size)


def _count(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name)
    if not text:
        return None
    if not text.isdecimal():
        raise ContractError(where=name, what=f"is {text!r}", hint="Set a whole number, from 0")
    return int(text)


T = TypeVar("T")


class Unit(StrEnum):
    """What is divided into shares: files, or the records of files that every share reads."""

    FILES = "files"
    RECORDS = "records"


@dataclass(frozen=True, slots=True)
class Share:
    """Share `index` of `count`: every `count`-th item, from item `index` on."""

    index: int = 0
    count: int = 1

    def of(self, items: Sequence[T]) -> list[T]:
        return list(items[self.index :: self.count])

    def pick(self, blocks: Iterable[list[T]], *, even: bool = False) -> Iterator[list[T]]:
        """Yield this share of a stream of blocks; with `even`, of its complete rounds only."""
        seen = given = 0
        held: list[T] = []
        for block in blocks:
            held += block[(self.index - seen) % self.count :: self.count]
            seen += len(block)
            ready = seen // self.count - given if even else len(held)
            yield held[:ready]
            given += ready
            held = held[ready:]


ALL = Share()


@dataclass(frozen=True, slots=True)
class Place:
    """This process's rank among all processes and among those of its host.

    As torchrun assigns them, the ranks of a host are consecutive.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    def __post_init__(self) -> None:
        for name, index, count in (
            ("rank", self.rank, self.world_size),
            ("local rank", self.local_rank, self.local_world_size),
        ):
            if not 0 <= index < count:
                raise ContractError(
                    where=f"{name} {index}",
                    what=f"is not among {count}, which are counted from 0",
                    hint="Set RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE as torchrun does",
                )

    @classmethod
    def uniform(cls, rank: int, world_size: int, hosts: int = 1) -> Place:
        """Return the place of `rank` if each of `hosts` runs the same number of processes."""
        if world_size % hosts:
            raise ContractError(
                where=f"{world_size} processes on {hosts} hosts",
                what="are not the same number on each",
                hint="Give the local rank and the local world size too",
            )
        local = world_size // hosts
        return cls(rank, world_size, rank % local, local)

    @property
    def host(self) -> int:
        return (self.rank - self.local_rank) // self.local_world_size

    @property
    def hosts(self) -> int:
        return -(-self.world_size // self.local_world_size)

    @property
    def local(self) -> Place:
        """The place of this process among those of its host alone."""
        return Place(self.local_rank, self.local_world_size, self.local_rank, self.local_world_size)

    def worker(self, index: int, count: int) -> Place:
        """Return the place of data worker `index` of `count` of this process."""
        return Place(
            self.rank * count + index,
            self.world_size * count,
            self.local_rank * count + index,
            self.local_world_size * count,
        )

    def share(self, distribution: Distribution) -> Share:
        """Return the share of the files: each host has all files, or already its own part."""
        if distribution is Distribution.SHARDED:
            return Share(self.local_rank, self.local_world_size)
        return Share(self.rank, self.world_size)

    def pipe_share(self, distribution: Distribution) -> Share:
        """Return the share of a FIFO, which one process reads for its whole host."""
        if distribution is Distribution.SHARDED:
            return ALL
        return Share(self.host, self.hosts)
