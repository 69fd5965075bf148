"""Files of this machine that a launch uploads to S3, under a hash of their content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from sagemaker_byoc.contract.archives import MODEL_ARCHIVE
from sagemaker_byoc.launch.content_names import DIGITS, file_digest
from sagemaker_byoc.launch.place import Place
from sagemaker_byoc.launch.problems import SettingsError
from sagemaker_byoc.launch.steps import File, Upload

_GZIP = b"\x1f\x8b"
MOST_FILES = 100_000
"""Files of one channel; more belong in archives, since S3 lists a thousand at a time."""


def is_remote(text: str) -> bool:
    return text.startswith("s3://")


def upload(where: str, path: Path, to: Place, prefix: str) -> Upload:
    """Upload a folder's files, or one file. Raise SettingsError if the folder is empty."""
    listed = [(path.name, path)] if path.is_file() else _listed(where, path)
    if not listed:
        raise SettingsError(
            f"{where}: {path} is an empty folder", hint="Name a folder or a file with data"
        )
    hashes = {name: file_digest(file) for name, file in listed}
    place = f"{prefix}/{_digest(hashes)}/"
    files = [File(file, place + name, file.stat().st_size) for name, file in listed]
    return _upload(path, to, place, files)


def upload_model(where: str, path: Path, to: Place, prefix: str) -> Upload:
    """Upload one model archive: `path` itself, or the packed folder `path`."""
    require_model(where, path)
    if path.is_file():
        digest, size = file_digest(path)[:DIGITS], path.stat().st_size
    else:
        listed = _listed(where, path)
        if not listed:
            raise SettingsError(
                f"{where}: {path} is an empty folder", hint="Name the folder that holds the model"
            )
        digest = _digest({name: file_digest(file) for name, file in listed})
        size = sum(file.stat().st_size for _, file in listed)
    place = f"{prefix}/{digest}/"
    return _upload(path, to, place, [File(path, place + MODEL_ARCHIVE, size)])


def require_model(where: str, path: Path) -> None:
    """Raise SettingsError unless `path` is a folder or a packed archive."""
    require(where, path)
    if path.is_file():
        with path.open("rb") as file:
            is_packed = file.read(len(_GZIP)) == _GZIP
        if not is_packed:
            raise SettingsError(
                f"{where}: {path} is not a .tar.gz archive",
                hint="Name the archive, or the folder with the model's files, which is packed",
            )


def _upload(source: Path, to: Place, prefix: str, files: Sequence[File]) -> Upload:
    return Upload(
        source=source,
        bucket=to.data_bucket,
        prefix=prefix,
        files=tuple(files),
        undo=to.aws(f"s3 rm --recursive s3://{to.data_bucket}/{prefix}"),
    )


def require(where: str, path: Path) -> None:
    """Raise SettingsError unless there is a file or a folder `path`."""
    if not path.is_file() and not path.is_dir():
        raise SettingsError(
            f"{where}: there is no file or folder {path}",
            hint="Write a path relative to the configuration file, or s3://BUCKET/PREFIX",
        )


def _listed(where: str, folder: Path) -> list[tuple[str, Path]]:
    require(where, folder)
    found: list[tuple[str, Path]] = []
    for place, _, files in os.walk(folder):
        paths = [Path(place) / name for name in files]
        found += [(path.relative_to(folder).as_posix(), path) for path in paths]
        if len(found) > MOST_FILES:
            raise SettingsError(
                f"{where}: {folder} has more than {MOST_FILES} files",
                hint="Pack them into archives, or copy them to S3 yourself and name its prefix",
            )
    return sorted(found)


def _digest(hashes: dict[str, str]) -> str:
    text = json.dumps(hashes, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
