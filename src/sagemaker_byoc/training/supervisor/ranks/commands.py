"""The programs of one host: a process a rank with all variables that torchrun sets, or torchrun.

The variables are those of torch 2.13's local_elastic_agent.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from sagemaker_byoc.training.supervisor.process.child import Program
from sagemaker_byoc.training.supervisor.ranks.launch import Launch

ROLE = "default"
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"


def rank_programs(
    launch: Launch,
    counts: Sequence[int],
    program: Program,
    *,
    scratch: Path,
) -> list[Program]:
    """One for each process of this host; `counts` has the number for each host."""
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
    """Torchrun starts the ranks; its own options and PET_* variables win over what we know."""
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
    script = program.command[1:] if program.command[0] == sys.executable else program.command
    plain = () if program.command[0] == sys.executable else ("--no-python",)
    command = (sys.executable, "-m", "torch.distributed.run", *words, *options, *plain, *script)
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
        # Rank 0 makes the store itself; there is no agent that has one.
        "TORCHELASTIC_USE_AGENT_STORE": "False",
    }
