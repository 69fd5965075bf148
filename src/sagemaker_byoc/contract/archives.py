"""model.tar.gz and output.tar.gz: a folder's contents at the root of a gzipped tar.

Source: developer guide, your-algorithms-training-algo-output and your-algorithms-inference-code
(the archive is unpacked into /opt/ml/model before the serving container starts).
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from pathlib import Path

from sagemaker_byoc.contract.errors import ArchiveError

MODEL_ARCHIVE = "model.tar.gz"
OUTPUT_ARCHIVE = "output.tar.gz"

# Weights hardly compress; level 1 packs them several times as fast as the default, 9.
_LEVEL = 1


def pack(folder: Path, archive: Path) -> bool:
    """Write `archive` from what is in `folder`, whole or not at all; False where it is empty.

    The same files, with the same times, make the same bytes.
    """
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    if not entries:
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
            for entry in entries:
                tar.add(entry, arcname=entry.name, filter=_owned_by_nobody_in_particular)
        temporary.replace(archive)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def unpack(archive: Path, folder: Path) -> None:
    """Unpack into `folder`. Links and names that lead outside it are refused, and so is a damaged
    archive; what had been unpacked before that stays in `folder`, which the caller throws away.
    """
    folder.mkdir(parents=True, exist_ok=True)
    where = str(archive)
    try:
        with tarfile.open(archive, "r:*") as tar:
            tar.extractall(folder, filter="data")
    except tarfile.FilterError as error:
        raise ArchiveError(
            where=where,
            what=f"holds an entry that leads outside the model folder ({error})",
            cure="Pack the folder's contents with relative names",
        ) from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ArchiveError(
            where=where,
            what=f"is not a whole tar archive ({error})",
            cure="Make it with: tar -C MODEL_DIR -czf model.tar.gz .",
        ) from error
    except OSError as error:
        raise ArchiveError(
            where=where,
            what=f"can't be unpacked ({error.strerror or error})",
            cure=f"Check that it is readable and that {folder} has room",
        ) from error


def _owned_by_nobody_in_particular(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same bytes whoever packed them: no user names of this machine in an artifact."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry
