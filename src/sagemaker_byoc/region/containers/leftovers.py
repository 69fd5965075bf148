"""What killed regions left on this machine: containers, networks, temporary folders.

An engine may be shared with regions that this process can't see: of another user, in another
container, on another machine. What can't be seen is listed and left alone.
"""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from sagemaker_byoc.contract import folders
from sagemaker_byoc.contract.errors import MachineError, RequestError
from sagemaker_byoc.host import owners
from sagemaker_byoc.host.docker import NoClientError
from sagemaker_byoc.region.core import state_folder
from sagemaker_byoc.region.engines import docker, process

STATE_LABEL = "sagemaker-byoc.state"
"""On every container and network of a region: the path of its state folder."""
REGION_LABEL = "sagemaker-byoc.region"
"""Likewise: the identity of that folder; another machine may have a folder of the same path."""
MACHINE_LABEL = "sagemaker-byoc.machine"
"""Likewise: the machine and the file system root on which that path was seen."""
YOUNG = 60.0
"""Seconds during which a temporary folder without a lock may belong to a region that starts."""

_LABELS = (STATE_LABEL, REGION_LABEL, MACHINE_LABEL, owners.LABEL)
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/mnt")


class Life(Enum):
    ALIVE = "a region has it"
    GONE = "its region has ended"
    HIDDEN = "it can't be seen from here whether that runs"


@dataclass(frozen=True, slots=True)
class Thing:
    """One resource of a region: a container, a network or a temporary folder."""

    kind: str
    name: str
    life: Life
    owner: str
    """The state folder of its region, or the command that made it."""


def region_labels(folder: Path) -> dict[str, str]:
    """Return the labels by which a region finds its containers again, even after a reboot."""
    return {STATE_LABEL: str(folder.resolve()), REGION_LABEL: state_folder.identity(folder)}


def region_prefix(folder: Path) -> str:
    """Return the prefix of the names of a region's containers and networks."""
    words = "".join(region_labels(folder).values())
    return f"byoc-{hashlib.sha256(words.encode()).hexdigest()[:8]}"


def machine_label() -> dict[str, str]:
    """Return the label of every container and network that this machine makes."""
    return {MACHINE_LABEL: here()}


def here() -> str:
    """Identify this kernel since its start, and what a path means to this process: BOOT/VIEW."""
    boot = _BOOT.read_text().strip() if _BOOT.exists() else platform.node()
    root = Path("/").stat()
    space = _NAMESPACE.stat().st_ino if _NAMESPACE.exists() else 0
    return f"{boot}/{space}-{root.st_dev}-{root.st_ino}"


def look(folder: Path, identity: str, machine: str) -> Life:
    """Return whether the region with these labels runs. Only what is certain is GONE."""
    boot = machine.partition("/")[0]
    same_view = machine == here()
    try:
        found = state_folder.read_identity(folder)
        locked = state_folder.is_locked(folder)
    except MachineError:
        return Life.HIDDEN
    if identity and found == identity:
        if locked:
            return Life.ALIVE
        # A lock that is held by another kernel can't be seen, even in a folder that both share.
        return Life.GONE if boot == here().partition("/")[0] else Life.HIDDEN
    return Life.GONE if identity and same_view else Life.HIDDEN


def find() -> tuple[list[Thing], list[str]]:
    """Return all resources of regions, and a sentence for each place that can't be searched."""
    things: list[Thing] = [*_folders()]
    problems = []
    for kind, listing in (("container", ["ps", "--all"]), ("network", ["network", "ls"])):
        try:
            things += _labelled(kind, listing)
        except NoClientError:
            continue  # nothing was ever run with it
        except MachineError as error:
            problems.append(f"{kind}s: {error}")
    return things, problems


def chosen(things: Collection[Thing], names: Collection[str]) -> list[Thing]:
    """Return what to remove: resources of regions that have ended, and those named explicitly."""
    unknown = {*names} - {thing.name for thing in things}
    if unknown:
        raise RequestError(
            f"nothing of a region is called {', '.join(sorted(unknown))}",
            hint="Use names that `byoc local gc --dry-run` shows",
        )
    return [thing for thing in things if thing.life is Life.GONE or thing.name in names]


def remove(things: Collection[Thing]) -> list[str]:
    """Remove all of them; return a sentence for each kind that could not be removed completely."""
    problems = []
    for kind, command in (
        ("container", ["rm", "--force", "--volumes"]),
        ("network", ["network", "rm"]),
    ):
        names = [thing.name for thing in things if thing.kind == kind]
        try:
            if names:
                docker.run(*command, *names)
        except MachineError as error:
            problems.append(f"{kind}s: {error}")
    for thing in things:
        if thing.kind == "folder":
            folders.remove(Path(thing.name))
            if os.path.lexists(thing.name):
                problems.append(f"{thing.name} can't be removed completely")
    return problems


def _folders() -> Iterator[Thing]:
    for folder in sorted(Path(tempfile.gettempdir()).glob(f"{state_folder.TEMPORARY_PREFIX}*")):
        try:
            locked = state_folder.is_locked(folder)
            # One that is being made has no identity yet.
            young = not state_folder.read_identity(folder) and _age(folder) < YOUNG
            life = Life.ALIVE if locked or young else Life.GONE
        except MachineError:
            life = Life.HIDDEN
        yield Thing("folder", str(folder), life, str(folder))


def _age(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _labelled(kind: str, listing: list[str]) -> Iterator[Thing]:
    is_container = kind == "container"
    fields = [
        "{{.Names}}\t{{.State}}" if is_container else "{{.Name}}\t",
        *(f'{{{{.Label "{label}"}}}}' for label in _LABELS),
    ]
    form = "\t".join(fields)
    text = docker.run(*listing, f"--filter=label={docker.LABEL}", f"--format={form}")
    for line in text.splitlines():
        called, status, folder, identity, machine, owner = line.split("\t")
        if folder:
            yield Thing(kind, called, look(Path(folder), identity, machine), folder)
        else:
            yield Thing(kind, called, _life_of(owner, status), "`byoc train` or `byoc serve`")


def _life_of(owner: str, status: str) -> Life:
    """Return HIDDEN for a container that has ended: it may be kept for its results, and is removed
    only by name.
    """
    is_over = owners.is_dead(owner) and status != "exited"
    return Life.GONE if is_over else Life.HIDDEN


def end_commands(*, docker_too: bool) -> list[str]:
    """End and remove what killed `byoc train` and `byoc serve` left; return a sentence per kind."""
    said = []
    if count := process.end_orphans():
        said.append(f"{count} processes of a command that was killed were ended")
    if docker_too:
        containers = [
            thing.name
            for thing in _labelled("container", ["ps", "--all", f"--filter=label={owners.LABEL}"])
            if thing.life is Life.GONE
        ]
        for name in containers:
            # Another command may be removing it at this moment.
            docker.remove("container", ["rm", "--force", "--volumes", name], "no such container")
        if containers:
            said.append(f"removed containers of a command that was killed: {', '.join(containers)}")
    for folder in owners.dead_folders():
        folders.remove(folder)
    return said
