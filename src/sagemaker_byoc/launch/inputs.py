"""Names made from content: of uploads to S3, and of jobs, models and configurations.

The same settings and the same bytes make the same name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract import facts, folders
from sagemaker_byoc.contract.archives import MODEL_ARCHIVE
from sagemaker_byoc.contract.masking import is_secret
from sagemaker_byoc.launch.steps import File, Place, Upload
from sagemaker_byoc.launch.table import SettingsError

_GZIP = b"\x1f\x8b"
MOST_FILES = 100_000
"""Files of one channel; more belong in archives, since S3 lists a thousand at a time."""

DIGITS = 12
"""Digits of a hash in a name."""
_CHUNK = 1 << 20
_ROUNDS = 200_000
"""Rounds of PBKDF2: a name is public, and a short secret must not be guessed from it."""


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

    def refuse(sentence: str) -> None:
        raise SettingsError(f"{where}: {sentence}", hint="Remove it, or make it readable")

    found = [*islice(folders.files(folder, on_left=refuse), MOST_FILES + 1)]
    if len(found) > MOST_FILES:
        raise SettingsError(
            f"{where}: {folder} has more than {MOST_FILES} files",
            hint="Pack them into archives, or copy them to S3 yourself and name its prefix",
        )
    return sorted((path.relative_to(folder).as_posix(), path) for path in found)


def _digest(hashes: dict[str, str]) -> str:
    text = json.dumps(hashes, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


# ── names ──


def content_name(stem: str, content: Mapping[str, Any], *, tail: str = "") -> str:
    """Join `stem`, a hash of `content`, and `tail`; cut the stem if it is too long."""
    rest = "-".join(part for part in (digest_of(content), tail) if part)
    room = facts.JOB_NAME_LENGTH.value - len(rest) - 1
    return f"{stem[:room].rstrip('-')}-{rest}"


def digest_of(content: Mapping[str, Any]) -> str:
    text = json.dumps(_public(content), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def check_name(where: str, name: str) -> str:
    """Return the name. Raise SettingsError unless SageMaker accepts it."""
    if not is_name(name):
        raise SettingsError(
            f"{where}: name is {name!r}, which SageMaker does not accept",
            hint=f"Use up to {facts.JOB_NAME_LENGTH.value} letters, digits and single hyphens",
        )
    return name


def is_name(text: str) -> bool:
    return re.fullmatch(facts.JOB_NAME.value, text) is not None


def legal_name(text: str) -> str:
    """Return a name made from any text, such as a folder's name."""
    return re.sub(r"[^a-zA-Z0-9]+", "-", text).strip("-")[:40].strip("-") or "program"


def file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _public(value: Any, name: str = "") -> Any:
    """Replace each secret with a slow hash, so that a new secret makes a new name."""
    if isinstance(value, Mapping):
        return {key: _public(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_public(item, name) for item in value]
    if isinstance(value, str) and value and is_secret(name):
        return _slow(name, value)
    return value


@lru_cache(maxsize=256)
def _slow(name: str, secret: str) -> str:
    return hashlib.pbkdf2_hmac("sha256", secret.encode(), name.encode(), _ROUNDS).hex()
