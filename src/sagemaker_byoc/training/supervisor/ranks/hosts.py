"""The hosts of a job: their names, and waiting until each has an address.

SageMaker gives the names in a file; an operator of Kubernetes gives variables. training-operator
1.9 sets PET_NNODES, PET_NODE_RANK, MASTER_ADDR and related ones for the pods of a PyTorchJob
(pkg/controller.v1/pytorch/envvar.go). Older operators set only RANK and WORLD_SIZE, which then
count pods. An elastic job has PET_RDZV_ENDPOINT and no ranks, and torchrun reads those itself.

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
"""Variable of torchrun for --nproc-per-node, which Kubernetes operators set."""
PET_RENDEZVOUS = "PET_RDZV_ENDPOINT"
"""Address at which torchrun finds the hosts of an elastic job."""
NODES = "PET_NNODES"
NODE_RANK = "PET_NODE_RANK"
RANK, WORLD_SIZE, LOCAL_RANK = "RANK", "WORLD_SIZE", "LOCAL_RANK"
MASTER_ADDR, MASTER_PORT = "MASTER_ADDR", "MASTER_PORT"
MOST_HOSTS = 10_000
DEFAULT_SECONDS = 300.0
POLL_SECONDS = 0.05
FIRST_RETRY = 0.2
LONGEST_RETRY = 5.0
LONGEST_LOOKUP = 1.0


def read_job(tree: Tree, environ: Mapping[str, str]) -> Job:
    """Return the job of this tree, with the hosts of the variables if no file names them.

    Raise ContractError for variables that contradict each other, DocumentError for a bad file.
    """
    job = Job.read(tree)
    hosts = () if has_named_hosts(job) else outer_hosts(environ)
    if not hosts:
        return job
    place = int(environ[NODE_RANK if environ.get(NODES) else RANK])
    return replace(job, cluster=Cluster(current_host=hosts[place], hosts=hosts))


def has_named_hosts(job: Job) -> bool:
    """Return whether a file names the hosts; those names are addresses, unlike invented ones."""
    return job.tree.resource_config_file.exists()


def outer_hosts(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return a name for each host that the variables count; none for one host or an elastic job.

    Raise ContractError unless the variables also say which of them this host is.
    """
    if rendezvous_is_outside(environ):
        return ()
    if environ.get(NODES):
        return _counted(environ, NODES, NODE_RANK)
    return _counted(environ, WORLD_SIZE, RANK) if _counts_pods(environ) else ()


def _counts_pods(environ: Mapping[str, str]) -> bool:
    """Return whether RANK and WORLD_SIZE are of an older operator, and count hosts."""
    given = all(map(environ.get, (RANK, WORLD_SIZE, MASTER_ADDR)))
    foreign = environ.get(LOCAL_RANK) or any(name.startswith("PET_") for name in environ)
    return given and not foreign


def rendezvous_is_outside(environ: Mapping[str, str]) -> bool:
    """Return whether torchrun finds the hosts, whose number may change."""
    return bool(environ.get(PET_RENDEZVOUS)) or ":" in environ.get(NODES, "")


def master_variables(job: Job, environ: Mapping[str, str]) -> dict[str, str]:
    """Return SM_MASTER_* for a job whose hosts have invented names."""
    if has_named_hosts(job) or not outer_hosts(environ):
        return {}
    given = {
        name: environ.get(f"PET_{name}") or environ.get(name) for name in (MASTER_ADDR, MASTER_PORT)
    }
    return {f"SM_{name}": value for name, value in given.items() if value}


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


Resolve = Callable[[str], str]


def resolve(host: str) -> str:
    """Return the first address of `host`; raise OSError if there is none."""
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
    """Return the address of each host; fewer after a stop. ContractError names missing hosts."""
    found: dict[str, str] = {}
    deadline = monotonic() + seconds
    for host in hosts:
        # Daemons, because the resolver may block for long, and then nothing waits for it.
        arguments = (host, found, deadline, resolve)
        threading.Thread(target=_keep_trying, args=arguments, daemon=True).start()
    while len(found) < len(hosts) and monotonic() < deadline and not is_stopped():
        sleep(POLL_SECONDS)
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
    """Look the name up, and do so again while an earlier lookup blocks.

    A resolver may take 10 s to answer for a name that does not exist yet, and a host with little
    work may have left by then.
    """
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
