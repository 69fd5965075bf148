"""This process in its job: where the data is, who else there is, which part is its own.

Works outside a job too: one host, one process, no channels, no hyperparameters.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.machine import visible_gpus
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import Channel
from sagemaker_byoc.contract.training.cluster import Cluster
from sagemaker_byoc.contract.training.environment import TRAINING_JOB_NAME
from sagemaker_byoc.contract.training.job import Job
from sagemaker_byoc.contract.variables import JOB_NAME
from sagemaker_byoc.training.library.data.shards import Place
from sagemaker_byoc.training.library.schema import parse

Schema = TypeVar("Schema")


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a training job; `name` is empty outside a job."""

    job: Job
    name: str
    place: Place
    gpus: int
    """GPUs that a CUDA program sees in this process's environment."""

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
        """This host's place among all hosts of the job, from 0 in natural order."""
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
        """True for the one process of all hosts that writes the model and the metrics."""
        return self.place.rank == 0

    def hyperparameters(self, schema: type[Schema], *, ignore_unknown: bool = False) -> Schema:
        """The job's hyperparameters as a dataclass; raise one error that lists all that is wrong.

        Those that are meant for the toolkit (`sagemaker_…`) are left out.
        """
        return parse(schema, self.job.hyperparameters.raw, ignore_unknown=ignore_unknown)


def job(environ: Mapping[str, str] | None = None) -> Process:
    """Read the job's files and this process's environment; nothing is kept for the next call."""
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
    """As torchrun's variables say; without them, one process on each host."""
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
