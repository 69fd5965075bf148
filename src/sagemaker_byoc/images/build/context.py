"""What a build is given: the files of its context, and one hash over all that decides the image."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.host.ignore import SECRETS, Ignore, walk
from sagemaker_byoc.host.ignore import read as read_ignore

PLATFORM = "linux/amd64"
FILES_LIMIT = 100_000
"""Files. Docker would send them all, at every build."""
_CHUNK = 2**20
_SECRETS = Ignore(SECRETS)


@dataclass(frozen=True, slots=True)
class Content:
    """`digest` is 64 hex digits; the same files, Dockerfile and arguments have the same."""

    digest: str
    files: int
    size: int
    """Bytes."""
    secrets: tuple[str, ...] = ()
    """Files that are sent although their names say that they hold credentials."""


def content(context: Path, dockerfile: Path, arguments: Mapping[str, str], *words: str) -> Content:
    """`words` is what else decides the image. Raises RequestError for what can't be read."""
    digest = hashlib.sha256("\0".join((PLATFORM, *words)).encode())
    for name in sorted(arguments):
        digest.update(f"\0{name}={arguments[name]}".encode())
    files = size = 0
    secrets: list[str] = []
    try:
        digest.update(b"\0" + dockerfile.read_bytes())
        for relative, path in walk(context, read_ignore(context, dockerfile)):
            state = path.lstat()
            files += 1
            size += 0 if stat.S_ISDIR(state.st_mode) else state.st_size
            if files > FILES_LIMIT:
                raise _too_many(context)
            if _SECRETS.matches(relative) and not stat.S_ISDIR(state.st_mode):
                secrets.append(relative)
            name = f"\0{relative}\0{_kind(state.st_mode)}\0"
            digest.update(os.fsencode(name))
            digest.update(_hash(path, state.st_mode))
    except OSError as error:
        raise RequestError(
            f"{error.filename} can't be read: {error.strerror}",
            hint=f"Make it readable, or name it in {context / '.dockerignore'}",
        ) from error
    return Content(digest.hexdigest(), files, size, tuple(secrets))


def _kind(mode: int) -> str:
    """A builder's cache looks at the permissions; the owner in the image is always root."""
    return f"{stat.S_IFMT(mode):o} {stat.S_IMODE(mode):o}"


def _hash(path: Path, mode: int) -> bytes:
    if stat.S_ISLNK(mode):
        return os.fsencode(path.readlink())
    if not stat.S_ISREG(mode):
        return b""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.digest()


def _too_many(context: Path) -> RequestError:
    return RequestError(
        f"{context} holds over {FILES_LIMIT} files, all of which a build would be sent",
        hint=f"Leave out with {context / '.dockerignore'} what is not code: data, .venv, .git",
    )
