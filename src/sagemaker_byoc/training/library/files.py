"""The files of a File or FastFile channel, and how one is read from its first byte to its last."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, Protocol

from sagemaker_byoc.contract.channels import MANIFEST_SUFFIX
from sagemaker_byoc.contract.cluster import natural_order
from sagemaker_byoc.contract.errors import ContractError

CHUNK = 256 << 10
"""Bytes of one read; FastFile turns reads into requests, and larger ones leave the CPU's cache."""

GZIP = b"\x1f\x8b\x08"


class DataError(ContractError):
    """Data that is not there, is not what it should be, or belongs to another process."""


def list_files(folder: Path, pattern: str = "*") -> list[Path]:
    """Every file under `folder` whose name matches, in natural order, the same on all hosts.

    Without hidden ones, and without the manifest that SageMaker may leave beside the data.
    """
    manifest = folder.name + MANIFEST_SUFFIX
    found = [path for path in _walk(folder) if path.match(pattern) and path.name != manifest]
    return sorted(found, key=lambda path: _order(path.relative_to(folder)))


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> NoReturn:
        raise DataError(
            where=str(error.filename),
            what=f"can't be listed ({error.strerror})",
            cure="Check that the channel is mounted and readable",
        ) from error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def _order(path: Path) -> tuple[object, ...]:
    """part-2 before part-10; the text decides between names like 1 and 01."""
    return (*(natural_order(part) for part in path.parts), str(path))


class Source(Protocol):
    """Where bytes come from: at most as many as asked for, none at the end only."""

    def read(self, size: int, /) -> bytes: ...


@contextmanager
def open_file(path: Path) -> Iterator[Source]:
    """The content of a file, unpacked if it is gzipped."""
    try:
        # Unbuffered: records are cut from what one read brings, and a buffer would only copy it.
        file = open(path, "rb", buffering=0)  # noqa: SIM115  closed below, not here
    except OSError as error:
        raise DataError(
            where=str(path), what=f"can't be read ({error.strerror})", cure="Check the channel"
        ) from error
    with file:
        head = file.read(len(GZIP))
        file.seek(0)
        yield unzipped(file, head)


def unzipped(source: Source, head: bytes) -> Source:
    """`source` itself or, where `head` starts as gzip does, what its members hold."""
    if not head.startswith(GZIP):
        return source
    return gzip.GzipFile(fileobj=source)  # type: ignore[call-overload, no-any-return]
