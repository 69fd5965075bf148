"""The hosts as an operator of Kubernetes describes them: by variables, where SageMaker has a file.

training-operator 1.9 gives the pods of a PyTorchJob PET_NNODES, PET_NODE_RANK, MASTER_ADDR and
their companions (pkg/controller.v1/pytorch/envvar.go); older ones only RANK and WORLD_SIZE, which
then count pods. An elastic job has PET_RDZV_ENDPOINT and no ranks, and torchrun reads those itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.cluster import Cluster
from sagemaker_byoc.contract.training.job import Job
from sagemaker_byoc.training.supervisor.settings import PET_RENDEZVOUS

NODES = "PET_NNODES"
NODE_RANK = "PET_NODE_RANK"
RANK, WORLD_SIZE, LOCAL_RANK = "RANK", "WORLD_SIZE", "LOCAL_RANK"
MASTER_ADDR, MASTER_PORT = "MASTER_ADDR", "MASTER_PORT"
MOST_HOSTS = 10_000


def read_job(tree: Tree, environ: Mapping[str, str]) -> Job:
    """The job of this tree; its hosts from the variables where no file names them.

    Raises ContractError for variables that contradict each other, DocumentError for a bad file.
    """
    job = Job.read(tree)
    hosts = () if has_named_hosts(job) else outer_hosts(environ)
    if not hosts:
        return job
    place = int(environ[NODE_RANK if environ.get(NODES) else RANK])
    return replace(job, cluster=Cluster(current_host=hosts[place], hosts=hosts))


def has_named_hosts(job: Job) -> bool:
    """Whether the hosts' names are of a file, and so addresses; those that we make up are not."""
    return job.tree.resource_config_file.exists()


def outer_hosts(environ: Mapping[str, str]) -> tuple[str, ...]:
    """A name for each of the hosts that the variables count; none for one host, or an elastic job.

    Raises ContractError unless they also say which of them this one is.
    """
    if rendezvous_is_outside(environ):
        return ()
    if environ.get(NODES):
        return _counted(environ, NODES, NODE_RANK)
    if counts_pods(environ):
        return _counted(environ, WORLD_SIZE, RANK)
    return ()


def counts_pods(environ: Mapping[str, str]) -> bool:
    """Whether RANK and WORLD_SIZE are an older operator's, and number hosts and not processes."""
    given = all(map(environ.get, (RANK, WORLD_SIZE, MASTER_ADDR)))
    foreign = environ.get(LOCAL_RANK) or any(name.startswith("PET_") for name in environ)
    return given and not foreign


def rendezvous_is_outside(environ: Mapping[str, str]) -> bool:
    """Whether torchrun is to find the hosts, whose number may change."""
    return bool(environ.get(PET_RENDEZVOUS)) or ":" in environ.get(NODES, "")


def master_variables(job: Job, environ: Mapping[str, str]) -> dict[str, str]:
    """SM_MASTER_*, where a made-up name would be in their place."""
    if has_named_hosts(job) or not outer_hosts(environ):
        return {}
    given = {name: environ.get(f"PET_{name}") or environ.get(name) for name in _MASTER}
    return {f"SM_{name}": value for name, value in given.items() if value}


_MASTER = (MASTER_ADDR, MASTER_PORT)


def _counted(environ: Mapping[str, str], total: str, place: str) -> tuple[str, ...]:
    number = environ[total]
    if not number.isdecimal() or not 0 < int(number) <= MOST_HOSTS:
        raise ContractError(
            where=total, what=f"is {number!r}", hint="Give the number of hosts, such as 2"
        )
    count = int(number)
    if count == 1:
        return ()
    rank = environ.get(place, "")
    if not rank.isdecimal() or int(rank) >= count:
        raise ContractError(
            where=place,
            what=f"is {rank!r} of {total}={count}",
            hint="Number the hosts from 0",
        )
    return tuple(f"node-{index}" for index in range(count))
