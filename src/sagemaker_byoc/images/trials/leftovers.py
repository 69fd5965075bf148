"""What a check makes besides its report: containers, networks, and one temporary folder.

Each carries the name of the process that made it, so that the next check can remove what is left
of one that was killed: docker ps --all --filter label=sagemaker-byoc.check
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sagemaker_byoc.contract import owner
from sagemaker_byoc.images import docker
from sagemaker_byoc.images.errors import ImageError
from sagemaker_byoc.images.trials import interruption

LABEL = "sagemaker-byoc.check"
"""Its value names the process, as contract.owner does."""
_PREFIX = "byoc-check-"
_KINDS = (
    ("container", ("ps", "--all", "--no-trunc"), "{{.ID}}", ("rm", "--force", "--volumes")),
    ("network", ("network", "ls"), "{{.ID}}", ("network", "rm")),
)


def label() -> list[str]:
    """Options for `docker create` and `docker network create`."""
    return ["--label", f"{LABEL}={owner.this_process()}"]


@contextmanager
def scratch() -> Iterator[Path]:
    """Make a temporary folder, and remove it with all that is in it."""
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{owner.this_process()}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep() -> int:
    """Remove what checks left that have ended; return how many things that were.

    Raise ImageError if the engine does not answer.
    """
    return _remove(owner.has_ended)


@contextmanager
def removed() -> Iterator[None]:
    """If a signal ends the block, remove what this process has made until then."""
    try:
        yield
    except interruption.Interrupted:
        with suppress(ImageError):
            _remove(lambda name: name == owner.this_process())
        raise


def _remove(chosen: Callable[[str], bool]) -> int:
    folders = [folder for folder in _folders() if chosen(_owner_of(folder))]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    count = len(folders)
    for _, listing, identity, removal in _KINDS:
        names = [name for name, made_by in _labelled(listing, identity) if chosen(made_by)]
        for name in names:
            with suppress(docker.DockerError):  # another check may have removed it meanwhile
                docker.run(*removal, name, apart=True)
        count += len(names)
    return count


def _labelled(listing: tuple[str, ...], identity: str) -> Iterator[tuple[str, str]]:
    """Names and owners of the containers or networks of checks."""
    form = f'{identity}\t{{{{.Label "{LABEL}"}}}}'
    for line in docker.run(*listing, "--filter", f"label={LABEL}", "--format", form).splitlines():
        name, _, made_by = line.partition("\t")
        yield name, made_by


def _folders() -> Iterator[Path]:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if folder.lstat().st_uid == os.geteuid() and not folder.is_symlink():
                yield folder


def _owner_of(folder: Path) -> str:
    return folder.name.removeprefix(_PREFIX).rpartition("-")[0]
