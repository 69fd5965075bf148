"""The launch of ranks: how many on which hosts, in which order, and with which variables.

Only jobs that ask for more than one plain process per host import this module. It understands the
switches of the SageMaker SDK, our own, and the PET_* variables that Kubernetes operators set for
torchrun; docs/decisions/0007-distributed.md has the reasons. The variables of each rank are those
of torch 2.13's local_elastic_agent.py.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.machine import Hardware
from sagemaker_byoc.contract.training.cluster import Cluster, natural_order
from sagemaker_byoc.contract.training.hyperparameters import decode
from sagemaker_byoc.contract.training.job import MASTER_PORT, TRAINING_JOB_NAME, Job
from sagemaker_byoc.contract.variables import CONTROL_PORT, NPROC, TORCHRUN_ARGS
from sagemaker_byoc.training.supervisor.plan import UNSUPPORTED, Settings
from sagemaker_byoc.training.supervisor.process.child import Program
from sagemaker_byoc.training.supervisor.ranks.hosts import (
    NODE_RANK,
    PET_NPROC,
    has_named_hosts,
    outer_hosts,
    rendezvous_is_outside,
)

GROUPS = "sagemaker_distribution_instance_groups"
GPU = "gpu"
MOST_PROCESSES = 1024
ROLE = "default"
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"


@dataclass(frozen=True, slots=True)
class Launch:
    hosts: tuple[str, ...]
    """Hosts of the distribution, in the order of their ranks; the first is the master."""
    place: int
    """This host's index among them."""
    processes: int
    """The number of processes on this host."""
    master: str
    port: int
    control_port: int
    run_id: str
    torchrun: tuple[str, ...] | None
    """Options for torchrun, if it starts the processes."""

    @property
    def host(self) -> str:
        return self.hosts[self.place]

    @property
    def is_elastic(self) -> bool:
        """Whether torchrun may continue with fewer hosts; then an end must not end the others."""
        return any(":" in words for words in _values(self.torchrun or (), "nnodes"))


def make_launch(job: Job, settings: Settings, hardware: Hardware) -> Launch | None:
    """Return the launch; None if this host runs the program as one plain process."""
    _refuse_unsupported(settings)
    environ = settings.environ
    if _is_a_rank_already(environ):
        return None
    outer = _outer_hosts(job, environ)
    hosts = outer or distribution_hosts(job)
    current = outer[int(environ[NODE_RANK])] if outer else job.cluster.current_host
    if current not in hosts:
        return None
    port = _port("PET_MASTER_PORT", environ.get("PET_MASTER_PORT"))
    port = port or _port("MASTER_PORT", environ.get("MASTER_PORT"))
    port = port or (_free_port() if len(hosts) == 1 else MASTER_PORT)
    control_port = _port(CONTROL_PORT, settings.text(CONTROL_PORT))
    return Launch(
        hosts=hosts,
        place=hosts.index(current),
        processes=_processes(settings, hardware),
        master=environ.get("PET_MASTER_ADDR")
        or environ.get("MASTER_ADDR")
        or ("127.0.0.1" if len(hosts) == 1 else hosts[0]),
        port=port,
        control_port=control_port or (port + 1 if port < 65535 else port - 1),
        run_id=environ.get("PET_RDZV_ID") or environ.get(TRAINING_JOB_NAME) or "byoc",
        torchrun=_torchrun(settings),
    )


def distribution_hosts(job: Job) -> tuple[str, ...]:
    """Return the hosts of the named groups, else of the current one, by capacity unit and name."""
    cluster = job.cluster
    names = decode(job.hyperparameters.raw.get(GROUPS, "null")) or [cluster.current_group]
    if not isinstance(names, list):
        names = [names]
    known = {group.name: group for group in cluster.all_groups}
    unknown = [name for name in names if not isinstance(name, str) or name not in known]
    if unknown:
        raise ContractError(
            where=GROUPS,
            what=f"names {unknown}, and the job's groups are {sorted(known)}",
            hint="Name groups of the job",
        )
    hosts = {host for name in names for host in known[str(name)].hosts}
    return tuple(sorted(hosts, key=lambda host: _order(cluster, host)))


def _order(cluster: Cluster, host: str) -> tuple[object, ...]:
    unit = cluster.topology.get(host)
    return (unit is None, natural_order(unit or ""), natural_order(host))


def _refuse_unsupported(settings: Settings) -> None:
    for name in UNSUPPORTED:
        if settings.is_enabled(name):
            raise ContractError(
                where=f"hyperparameter {name}",
                what="asks for a launcher that this image does not have",
                hint="Use distribution={'torch_distributed': {'enabled': True}}, or set "
                f"{NPROC}=gpu",
            )


def _is_a_rank_already(environ: Mapping[str, str]) -> bool:
    """Return whether something outside counts processes: RANK and WORLD_SIZE without PET_*."""
    has_pet = any(name.startswith("PET_") for name in environ)
    return "RANK" in environ and "WORLD_SIZE" in environ and not has_pet


def _outer_hosts(job: Job, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the hosts of an operator, which win over a file if they say which one this is."""
    return outer_hosts(environ) if environ.get(NODE_RANK) or not has_named_hosts(job) else ()


def _processes(settings: Settings, hardware: Hardware) -> int:
    text = settings.text(NPROC) or settings.environ.get(PET_NPROC) or GPU
    if text in {GPU, "auto"}:
        # One process on a host without GPUs, so that the same job can be tried there.
        return max(1, hardware.gpus)
    if text == "cpu":
        return hardware.cpus
    if text.isdecimal() and 0 < int(text) <= MOST_PROCESSES:
        return int(text)
    raise ContractError(
        where=NPROC,
        what=f"is {text!r}",
        hint=f"Give a number of processes for each host, or {GPU!r} for one per GPU",
    )


def _torchrun(settings: Settings) -> tuple[str, ...] | None:
    text = settings.text(TORCHRUN_ARGS)
    if text is None:
        # An elastic job of Kubernetes: torchrun reads the rest of its variables itself.
        return () if rendezvous_is_outside(settings.environ) else None
    import shlex  # noqa: PLC0415 - only torchrun needs it

    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ContractError(
            where=TORCHRUN_ARGS,
            what=f"is {text!r} ({error})",
            hint="Quote its words as for a shell",
        ) from error


def _values(options: tuple[str, ...], name: str) -> list[str]:
    """Return the values of an option, given as --name value or --name=value."""
    spellings = {f"--{name}", f"--{name.replace('-', '_')}"}
    values = [b for a, b in pairwise(options) if a in spellings]
    return values + [o.partition("=")[2] for o in options if o.partition("=")[0] in spellings]


def _port(name: str, text: str | None) -> int | None:
    """Return the port that a setting names; None if it is not set."""
    if text and not (text.isdecimal() and 0 < int(text) < 65536):
        raise ContractError(where=name, what=f"is {text!r}", hint="Give a port, 1 to 65535")
    return int(text) if text else None


def _free_port() -> int:
    """Return a free port: one host needs no agreed one, and its machine may run other jobs."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def cpu_threads(cpus: int, processes: int) -> int:
    """Return a rank's share of the cores for OMP_NUM_THREADS; a core is two vCPUs."""
    return max(1, cpus // (2 * processes))


def rank_programs(
    launch: Launch,
    counts: Sequence[int],
    program: Program,
    *,
    scratch: Path,
) -> list[Program]:
    """Return a program for each process of this host; `counts` has the number for each host."""
    first = sum(counts[: launch.place])
    programs = []
    for local in range(launch.processes):
        rank = first + local
        error_file = scratch / f"error-{rank}.json"
        variables = {
            **_group(launch, counts),
            "RANK": str(rank),
            "LOCAL_RANK": str(local),
            "ROLE_RANK": str(rank),
            ERROR_FILE: str(error_file),
        }
        environment = {**program.environment, **variables}
        label = f"[rank {rank}] " if rank else ""
        programs.append(
            Program(program.command, program.folder, environment, rank, label, error_file)
        )
    return programs


def torchrun_program(launch: Launch, program: Program, *, scratch: Path) -> Program:
    """Return torchrun, which starts the ranks; its options and PET_* variables win over ours."""
    environment = {**program.environment, ERROR_FILE: str(scratch / "error.json")}
    known = {
        "nnodes": str(len(launch.hosts)),
        "nproc-per-node": str(launch.processes),
        "node-rank": str(launch.place),
        "master-addr": launch.master,
        "master-port": str(launch.port),
    }
    options = launch.torchrun or ()
    given = {option.partition("=")[0].lstrip("-").replace("_", "-") for option in options}
    words = [
        word
        for name, value in known.items()
        if name not in given and f"PET_{name.upper().replace('-', '_')}" not in environment
        for word in (f"--{name}", value)
    ]
    executable, *arguments = program.command
    script = arguments if executable == sys.executable else ["--no-python", *program.command]
    command = (sys.executable, "-m", "torch.distributed.run", *words, *options, *script)
    return Program(command, program.folder, environment, error_file=Path(environment[ERROR_FILE]))


def _group(launch: Launch, counts: Sequence[int]) -> dict[str, str]:
    world = str(sum(counts))
    return {
        "WORLD_SIZE": world,
        "LOCAL_WORLD_SIZE": str(launch.processes),
        "GROUP_RANK": str(launch.place),
        "GROUP_WORLD_SIZE": str(len(launch.hosts)),
        "ROLE_NAME": ROLE,
        "ROLE_WORLD_SIZE": world,
        "MASTER_ADDR": launch.master,
        "MASTER_PORT": str(launch.port),
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCHELASTIC_RUN_ID": launch.run_id,
        # Rank 0 makes the store itself, because there is no agent with one.
        "TORCHELASTIC_USE_AGENT_STORE": "False",
    }
