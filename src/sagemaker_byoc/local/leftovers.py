"""What regions that were killed left on this machine: containers, networks, temporary folders."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.local.engines import docker
from sagemaker_byoc.local.errors import MachineError
from sagemaker_byoc.local.state import TEMPORARY_PREFIX, is_locked

STATE_LABEL = "sagemaker-byoc.state"
"""On every container and network of a region: the path of its state folder."""


@dataclass(frozen=True, slots=True)
class Leftovers:
    """`containers` and `networks` by Docker's ids, where there is a Docker engine."""

    containers: tuple[str, ...]
    networks: tuple[str, ...]
    folders: tuple[Path, ...]

    def remove(self) -> None:
        if self.containers:
            docker.run(["rm", "--force", "--volumes", *self.containers])
        if self.networks:
            docker.run(["network", "rm", *self.networks])
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)


def find() -> Leftovers:
    """Of a region that runs, nothing; whether it does is told by the lock of its folder."""
    temporary = Path(tempfile.gettempdir()).glob(f"{TEMPORARY_PREFIX}*")
    return Leftovers(
        containers=tuple(_orphans(["ps", "--all"])),
        networks=tuple(_orphans(["network", "ls"])),
        folders=tuple(folder for folder in sorted(temporary) if not is_locked(folder)),
    )


def _orphans(listing: list[str]) -> list[str]:
    form = f'{{{{.ID}}}} {{{{.Label "{STATE_LABEL}"}}}}'
    try:
        text = docker.run([*listing, f"--filter=label={STATE_LABEL}", f"--format={form}"])
    except MachineError:
        return []
    found = (line.partition(" ") for line in text.splitlines())
    return [identifier for identifier, _, state in found if state and not is_locked(Path(state))]
