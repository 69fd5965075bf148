"""Containers, networks and temporary folders that a check or a build leaves beside its result.

Each carries the identity of the process that made it, so that the next check or build can remove
what is left of one that was killed: docker ps --all --filter label=sagemaker-byoc.check
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from sagemaker_byoc.contract.errors import ByocError
from sagemaker_byoc.host import docker, owners

LABEL = "sagemaker-byoc.check"
"""Label whose value tells the things of one process from those of others."""
_MINE = uuid.uuid4().hex[:12]
_OWNER = f'{{{{.ID}}}}\t{{{{.Label "{owners.LABEL}"}}}}'
_KINDS = (
    (("ps", "--all", "--no-trunc"), ("rm", "--force", "--volumes")),
    (("network", "ls"), ("network", "rm")),
)
"""How containers and networks are listed and removed."""


def labels() -> list[str]:
    """Options for `docker create` and `docker network create`."""
    return ["--label", f"{LABEL}={_MINE}", "--label", f"{owners.LABEL}={owners.me()}"]


def whole(*arguments: str) -> str:
    """Run a docker command to its end, even if a signal arrives meanwhile, and raise that then.

    What a killed client has asked for is made all the same, and a moment later.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(docker.run, *arguments).result()


@contextmanager
def scratch(purpose: str = "check") -> Iterator[Path]:
    """Make a temporary folder, and remove it with all that is in it."""
    folder = owners.make_folder(purpose)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def removed() -> Iterator[None]:
    """Remove the containers and networks of this process if the block fails."""
    try:
        yield
    except BaseException:
        with suppress(ByocError):
            _remove(f"{LABEL}={_MINE}", only_dead=False)
        raise


def sweep() -> int:
    """Remove what was left by processes that have ended; return how many things that were.

    Raise ByocError if the engine does not answer.
    """
    return sweep_folders() + _remove(LABEL, only_dead=True)


def sweep_folders() -> int:
    """Remove the temporary folders of ended processes, which needs no engine."""
    folders = [*owners.dead_folders()]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return len(folders)


def _remove(label: str, *, only_dead: bool) -> int:
    count = 0
    for listing, removal in _KINDS:
        found = docker.run(*listing, "--filter", f"label={label}", "--format", _OWNER)
        for line in found.splitlines():
            name, _, owner = line.partition("\t")
            if only_dead and not owners.is_dead(owner):
                continue
            with suppress(docker.DockerError):  # another check may have removed it meanwhile
                whole(*removal, name)
                count += 1
    return count
