"""What a build is given: the files of its context, and one hash over all that decides the image."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract import variables
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.contract.paths import DEFAULT_PROGRAM_DIR
from sagemaker_byoc.contract.requirements import FILE as REQUIREMENTS
from sagemaker_byoc.host import docker, ignore
from sagemaker_byoc.host.ignore import SECRETS, Ignore, walk
from sagemaker_byoc.host.ignore import read as read_ignore
from sagemaker_byoc.images import scratch

PLATFORM = "linux/amd64"
FILES_LIMIT = 100_000
"""Files. Docker would send them all at every build."""
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
    """`words` is what else decides the image. Raise RequestError for what can't be read."""
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
    """Return the permissions, which a builder's cache looks at; the owner is always root."""
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


BASES = {"train": "byoc-train", "serve": "byoc-serve"}
_INSTALL = (
    "python -m venv /tmp/tools"
    " && /opt/venv/bin/python -I -m sagemaker_byoc.contract.requirements --pip /tmp/tools/bin/pip"
    ' --constraints /opt/venv/constraints.txt --replace "$REPLACE" --no-cache-dir'
    f" --requirement {REQUIREMENTS} && rm -rf /tmp/tools"
)
"""The serving image has no pip."""
_LOCAL = re.compile(
    r"^\s*(-r|-c|-e|--requirement|--constraint|--editable|\.|/|file:|[^#]*@\s*file:)", re.MULTILINE
)
"""A line that names another file of the program."""
_OTHERS = ("environment.yml", "environment.yaml", "conda.yaml", "Pipfile", "poetry.lock", "uv.lock")
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class BareContext:
    folder: Path
    dockerfile: Path
    base: str
    """The id of the image it builds on."""
    notes: tuple[str, ...] = ()
    """Notes on what was left out of the program, and what of it is not read."""


@contextmanager
def prepared(
    kind: str, program: Path, entry_point: str | None, *, secret: bool = False
) -> Iterator[BareContext]:
    """Make a temporary folder, removed at the end. Raise RequestError without the toolkit's image.

    `secret`: the build has a pip.conf as its secret `pip`, which only BuildKit can mount.
    """
    found = docker.inspect("image", BASES[kind])
    if found is None:
        raise RequestError(
            f"{program} has no Dockerfile.{kind}, and the engine has no image {BASES[kind]} "
            "to put the program on",
            hint="`byoc init` writes a Dockerfile; or build the toolkit's images: "
            "scripts/build-images",
        )
    with copied(program) as (copy, left_out):
        folder = copy.parent
        dockerfile = folder / "Dockerfile"
        dockerfile.write_text(_text(kind, entry_point, folder / "program", secret=secret))
        notes = (*left_out, *_unread(folder / "program"))
        yield BareContext(folder, dockerfile, str(found["Id"]), notes)


@contextmanager
def copied(program: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield a copy without what its .dockerignore and our own patterns leave out, and notes."""
    scratch.sweep_folders()
    with scratch.scratch("build") as folder:
        yield folder / "program", _copy(program, folder / "program")


def _copy(program: Path, target: Path) -> tuple[str, ...]:
    """Copy what no pattern leaves out, and return what those of our own left out, in words.

    The lines of the program's .dockerignore come after our own and can take back what these leave
    out.
    """
    own = program / ignore.FILE
    lines = ignore.lines_of(own) if own.is_file() else []
    ignored = ignore.Ignore([*ignore.DEFAULTS, *lines])
    left_out: list[str] = []
    target.mkdir()
    total = 0
    try:
        for relative, path in ignore.walk(program, ignored, left_out):
            mode = path.lstat().st_mode
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            if stat.S_ISDIR(mode):
                (target / relative).mkdir(exist_ok=True)
            elif stat.S_ISREG(mode) or stat.S_ISLNK(mode):
                total += path.lstat().st_size
                ignore.require_small(program, total)
                shutil.copy2(path, target / relative, follow_symlinks=False)
    except OSError as error:
        raise RequestError(
            f"{error.filename} can't be read: {error.strerror}",
            hint=f"Make it readable, or name it in {own}",
        ) from error
    return _told(program, left_out, ignore.Ignore(lines))


def _told(program: Path, left_out: list[str], theirs: ignore.Ignore) -> tuple[str, ...]:
    """Return one line for what only our own patterns left out."""
    all_ = {*left_out}
    names = [
        name
        for name in left_out
        if not theirs.matches(name) and posixpath.dirname(name) not in all_
    ]
    if not names:
        return ()
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    shown = ", ".join(names[:_SHOWN])
    return (f"left out: {shown}{more}; a line `!NAME` in {program / ignore.FILE} takes it in",)


def _unread(program: Path) -> tuple[str, ...]:
    found = [name for name in _OTHERS if (program / name).is_file()]
    if not found or (program / REQUIREMENTS).is_file():
        return ()
    return (f"{found[0]} is not read: list what the program needs in {REQUIREMENTS}",)


def _text(kind: str, entry_point: str | None, program: Path, *, secret: bool) -> str:
    copy = f"COPY program {DEFAULT_PROGRAM_DIR}/"
    lines = [f"FROM {BASES[kind]}"]
    lines.append(f"RUN rm -rf {DEFAULT_PROGRAM_DIR} && mkdir {DEFAULT_PROGRAM_DIR}")
    if (program / REQUIREMENTS).is_file():
        lines += ['ARG REPLACE=""', "ARG PIP_INDEX_URL"]
        text = (program / REQUIREMENTS).read_text(errors="replace")
        # A change to the program itself installs nothing again, if its requirements allow that.
        first = (
            copy if _LOCAL.search(text) else copy.replace("program ", f"program/{REQUIREMENTS} ")
        )
        config = "export PIP_CONFIG_FILE=/run/secrets/pip"
        mount = f"--mount=type=secret,id=pip {config} && " if secret else ""
        lines += [first, f"RUN {mount}{_INSTALL}"]
    lines.append(copy)
    lines.append(f"RUN chmod -R a+rX {DEFAULT_PROGRAM_DIR}")
    if entry_point is not None:
        quoted = re.sub(r'([\\"$])', r"\\\1", entry_point)
        lines.append(f'ENV {variables.PROGRAM}="{quoted}"')
    return "\n".join(lines) + "\n"
