"""The hosts of a job: their names, and waiting until each has an address.

SageMaker has a file for the names; an operator of Kubernetes has variables. training-operator 1.9
gives the pods of a PyTorchJob PET_NNODES, PET_NODE_RANK, MASTER_ADDR and their companions
(pkg/controller.v1/pytorch/envvar.go); older ones only RANK and WORLD_SIZE, which then count pods.
An elastic job has PET_RDZV_ENDPOINT and no ranks, and torchrun reads those itself.

SageMaker starts the hosts of a job one after another: a name may not resolve at first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from time import monotonic, sleep

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.cluster import Cluster
from sagemaker_byoc.contract.training.job import Job
from sagemaker_byoc.contract.variables import DNS_SECONDS

PET_NPROC = "PET_NPROC_PER_NODE"
"""Torchrun's own variable for --nproc-per-node; Kubernetes operators set it."""
PET_RENDEZVOUS = "PET_RDZV_ENDPOINT"
"""Where torchrun finds the hosts of an elastic job."""
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


DEFAULT_SECONDS = 300.0
POLL_SECONDS = 0.05
FIRST_RETRY = 0.2
LONGEST_RETRY = 5.0
LONGEST_LOOKUP = 1.0

Resolve = Callable[[str], str]


def resolve(host: str) -> str:
    """The first address of `host`; raises OSError."""
    import socket  # noqa: PLC0415 - a job on one host must not wait for it

    address: str = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]  # type: ignore[assignment]
    return address


def wait_for_hosts(
    hosts: Sequence[str],
    seconds: float,
    *,
    is_stopped: Callable[[], bool],
    resolve: Resolve = resolve,
) -> dict[str, str]:
    """Each host's address; fewer if we were stopped. ContractError names who is missing."""
    found: dict[str, str] = {}
    deadline = monotonic() + seconds
    for host in hosts:
        # Daemons: the resolver itself may block for long, and nobody waits for it then.
        arguments = (host, found, deadline, resolve)
        threading.Thread(target=_keep_trying, args=arguments, daemon=True).start()
    while len(found) < len(hosts) and monotonic() < deadline and not is_stopped():
        sleep(POLL_SECONDS if len(hosts) > len(found) else 0)
    missing = [host for host in hosts if host not in found]
    if missing and not is_stopped():
        raise ContractError(
            where=f"host {', '.join(missing)}",
            what=f"did not resolve to an address within {seconds:g} s",
            hint="Look at that host's log: its container may not have started. "
            f"{DNS_SECONDS} sets the time",
        )
    return dict(found)


def _keep_trying(host: str, found: dict[str, str], deadline: float, resolve: Resolve) -> None:
    """Ask again while an earlier lookup still blocks: a resolver may take 10 s to answer for a name
    that is not there yet, and a host whose work is short may have left by then."""
    pause = FIRST_RETRY
    while host not in found and monotonic() < deadline:
        lookup = threading.Thread(target=_try, args=(host, found, resolve), daemon=True)
        lookup.start()
        lookup.join(LONGEST_LOOKUP)
        if host not in found:
            sleep(min(pause, max(0.0, deadline - monotonic())))
            pause = min(2 * pause, LONGEST_RETRY)


def _try(host: str, found: dict[str, str], resolve: Resolve) -> None:
    with suppress(OSError):
        found[host] = resolve(host)
