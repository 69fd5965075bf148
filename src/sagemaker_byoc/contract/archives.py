"""model.tar.gz and output.tar.gz: a folder's contents at the root of a gzipped tar.

Source: developer guide, your-algorithms-training-algo-output and your-algorithms-inference-code
(the archive is unpacked into /opt/ml/model before the serving container starts).
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from sagemaker_byoc.contract import folders
from sagemaker_byoc.contract.errors import ArchiveError

MODEL_ARCHIVE = "model.tar.gz"
OUTPUT_ARCHIVE = "output.tar.gz"

OnBytes = Callable[[int], None]

# Weights hardly compress; level 1 packs them several times as fast as the default, 9.
_LEVEL = 1


def pack(folder: Path, archive: Path, on_left: folders.OnLeft | None = None) -> bool:
    """Write `archive` from what is in the user's own `folder`; return False if it is empty.

    Links within the folder stay links. `on_left` gets a sentence for each entry that is left out;
    without it, raise ArchiveError.
    """

    def refuse(sentence: str) -> None:
        raise ArchiveError(
            where=str(folder),
            what=f"can't be packed completely; {sentence}",
            hint="Copy or remove it",
        )

    if not folder.is_dir():
        return False
    entries = folders.walk(folder.resolve(), "", on_left or refuse, keep_links=True)
    return pack_entries(entries, archive)


class _Counted(io.BufferedReader):
    """A file that reports how far it has been read."""

    def __init__(self, file: io.FileIO, on_bytes: OnBytes) -> None:
        super().__init__(file)
        self._on_bytes = on_bytes
        self._farthest = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        more = self.tell() - self._farthest
        if more > 0:
            self._farthest += more
            self._on_bytes(more)
        return data


def pack_entries(
    entries: Iterable[folders.Entry], archive: Path, on_bytes: OnBytes | None = None
) -> bool:
    """Write `archive`, whole or not at all; return False, writing nothing, without entries.

    `on_bytes` gets the number of bytes that were read of the files. The same files, with
    the same times, make the same bytes.
    """
    waiting = iter(entries)
    first = next(waiting, None)
    if first is None:
        return False
    archive.parent.mkdir(parents=True, exist_ok=True)
    temporary = archive.with_name(f".{archive.name}.{os.getpid()}")
    try:
        with (
            open(temporary, "wb") as file,
            # The time of packing would make two archives of the same files differ.
            gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packer,
            tarfile.open(fileobj=packer, mode="w") as tar,
        ):
            _add(tar, first, on_bytes)
            for entry in waiting:
                _add(tar, entry, on_bytes)
        temporary.replace(archive)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _bounded(tar: tarfile.TarFile, where: str) -> Iterator[tarfile.TarInfo]:
    """Yield the members; raise ArchiveError for too much, and for a path that goes through a link.

    tarfile's own filter resolves such a path, which can be made too long for it to see the end.
    """
    links: set[PurePosixPath] = set()
    size = 0
    for number, member in enumerate(tar):
        size += member.size
        if number >= folders.MOST_ENTRIES or size > folders.LARGEST:
            raise ArchiveError(
                where=where,
                what=f"holds more than {folders.MOST_ENTRIES} entries or {folders.LARGEST} bytes",
                hint="Pack the model's own files only",
            )
        path = PurePosixPath(member.name)
        through = {
            *path.parents,
            *(PurePosixPath(member.linkname).parents if member.islnk() else ()),
        }
        if through & links:
            raise ArchiveError(
                where=where,
                what=f"holds an entry that goes through a link ({folders.readable(member.name)})",
                hint="Pack folders instead of links to folders",
            )
        if member.issym():
            links.add(path)
        yield member


def _add(tar: tarfile.TarFile, entry: folders.Entry, on_bytes: OnBytes | None) -> None:
    """Add a member without user names of this machine: the bytes are the same on every machine."""
    member = tarfile.TarInfo(entry.relative)
    member.mode = stat.S_IMODE(entry.status.st_mode) & 0o777
    member.mtime = entry.status.st_mtime
    if entry.link is not None:
        member.type, member.linkname = tarfile.SYMTYPE, entry.link
        tar.addfile(member)
    elif entry.file is None:
        member.type = tarfile.DIRTYPE
        tar.addfile(member)
    else:
        member.size = entry.status.st_size
        file = io.FileIO(entry.file, "rb", closefd=False)
        with io.BufferedReader(file) if on_bytes is None else _Counted(file, on_bytes) as data:
            tar.addfile(member, data)


def unpack(archive: Path, folder: Path, on_bytes: OnBytes | None = None) -> None:
    """Unpack into `folder`. Raise ArchiveError for a damaged archive, and for links and names that
    lead outside; what was unpacked before stays in `folder`, which the caller removes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    where = str(archive)
    try:
        with (
            io.FileIO(archive) as raw,
            io.BufferedReader(raw) if on_bytes is None else _Counted(raw, on_bytes) as file,
            tarfile.open(fileobj=file, mode="r:*") as tar,
        ):
            tar.extractall(folder, members=_bounded(tar, where), filter="data")
    except tarfile.FilterError as error:
        raise ArchiveError(
            where=where,
            what=f"holds an entry that leads outside the model folder ({error})",
            hint="Pack the folder's contents with relative names",
        ) from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ArchiveError(
            where=where,
            what=f"is not a whole tar archive ({str(error).partition(':')[0]})",
            hint="Make it with: tar -C MODEL_DIR -czf model.tar.gz .",
        ) from error
    except OSError as error:
        raise ArchiveError(
            where=where,
            what=f"can't be unpacked ({error.strerror or error})",
            hint=f"Check that it is readable and that {folder} has room",
        ) from error
