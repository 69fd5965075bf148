"""The files of a File or FastFile channel, and how one is read from its first byte to its last."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import parent_process
from pathlib import Path
from typing import NoReturn, Protocol

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.folders import DESKTOP_FILES
from sagemaker_byoc.contract.training.channels import MANIFEST_SUFFIX
from sagemaker_byoc.contract.training.cluster import natural_order
from sagemaker_byoc.contract.variables import BASE_DIR

CHUNK = 256 << 10
"""Bytes of one read; FastFile turns reads into requests, and larger ones leave the CPU's cache."""

MOST_LOOKED_AT = 10_000
"""Files of which the sizes are asked for, which takes a moment each on a mounted channel."""
MOST_NAMED = 8
DESCRIPTIONS = {
    "dataset_dict.json": {".arrow"},
    "dataset_info.json": {".arrow"},
    "state.json": {".arrow"},
    "index.json": {".mds", ".bin"},
}
"""What Hugging Face's `save_to_disk`, MosaicML's MDSWriter and LitData write beside such files."""
FOLDER_MARKER = "_$folder$"
"""Ends the empty object that Hadoop on EMR leaves for a folder."""
_said: set[Path] = set()

GZIP = b"\x1f\x8b\x08"


class DataError(ContractError):
    """Data that is not there, is not what it should be, or belongs to another process."""


def list_files(folder: Path, pattern: str = "*") -> list[Path]:
    """Every data file under `folder` whose name matches, in natural order, the same on all hosts.

    As Hadoop, Spark and Arrow read a folder: names that begin with `.` or `_` are not data, such as
    `_SUCCESS`, `._part-0` and all of `_temporary/`, unless the pattern begins so too; a folder
    `_key=value` is a partition. Nor are the manifest that SageMaker may leave beside the data,
    descriptions of the files beside them, what Windows and Hadoop leave, and folders behind a link.
    What is left out is said once.
    """
    left_out: list[str] = []
    found = [path for path in _walk(folder, left_out, pattern) if path.match(pattern)]
    kinds = {suffix for path in found for suffix in path.suffixes}
    known = {name for name, described in DESCRIPTIONS.items() if described & kinds}
    known.add(folder.name + MANIFEST_SUFFIX)
    left_out += [path.name for path in found if path.name in known]
    _say_left_out(folder, left_out)
    return sorted(
        (path for path in found if path.name not in known),
        key=lambda path: _order(path.relative_to(folder)),
    )


def make_folder(folder: Path) -> None:
    """Make a folder of the job; DataError says how to have it elsewhere."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            where=str(folder),
            what=f"can't be made ({error.strerror})",
            hint=f"Outside SageMaker set {BASE_DIR} to a folder of yours, or give folder=",
        ) from error


def split_by_content(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """Files that hold something, and empty ones. Among very many files those are not looked for:
    they leave no share without data."""
    if len(paths) > MOST_LOOKED_AT:
        return paths, []
    empty = {path for path in paths if path.stat().st_size == 0}
    if len(empty) == len(paths):
        return paths, []
    return [path for path in paths if path not in empty], [path for path in paths if path in empty]


def _say_left_out(folder: Path, names: list[str]) -> None:
    """Say it once per folder, in the first process of each host; not on stderr, whose last line is
    taken for the reason of a failure."""
    is_first = os.environ.get("LOCAL_RANK", "0") == "0" and parent_process() is None
    if names and is_first and folder not in _said:
        _said.add(folder)
        shown = ", ".join(sorted(names)[:MOST_NAMED])
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        with suppress(OSError, ValueError, AttributeError):  # no log, or a full disk
            sys.stdout.write(f"byoc data: {folder}: left out, as no data: {shown}{more}\n")
            sys.stdout.flush()


def _is_data(name: str, pattern: str = "") -> bool:
    if name in DESKTOP_FILES or name.endswith(FOLDER_MARKER):
        return False
    return not name.startswith((".", "_")) or (pattern[:1] in {".", "_"} and name[0] == pattern[0])


def _walk(folder: Path, left_out: list[str], pattern: str) -> Iterator[Path]:
    """Unlike `folders.files`, look into no folder that is not data, and name what is left out."""

    def refuse(error: OSError) -> NoReturn:
        raise DataError(
            where=str(error.filename),
            what=f"can't be listed ({error.strerror})",
            hint="Check that the channel is mounted and readable",
        ) from error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        kept = [name for name in folders if _is_data(name) or (name[0] == "_" and "=" in name)]
        left_out += [f"{name}/" for name in folders if name not in kept]
        # SageMaker's own channels hold none, and os.walk does not follow them.
        links = [name for name in kept if Path(parent, name).is_symlink()]
        left_out += [f"{name}/ (a link)" for name in links]
        left_out += [name for name in names if not _is_data(name, pattern)]
        folders[:] = kept
        yield from (Path(parent, name) for name in names if _is_data(name, pattern))


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
            where=str(path), what=f"can't be read ({error.strerror})", hint="Check the channel"
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
