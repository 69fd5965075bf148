"""Files that are left out when a folder is copied: the rules of .dockerignore, and our patterns.

Source: moby/patternmatcher (patternmatcher.go, ignorefile/ignorefile.go). Patterns are Go's
filepath.Match with `**` for any number of folders, from the context's root; `!` takes something
back in, and the last line that matches decides. What matches a folder leaves out all that is in it.
"""

from __future__ import annotations

import functools
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.contract.folders import DESKTOP_FILES

FILE = ".dockerignore"
SECRETS = (
    "**/.env",
    "**/.env.*",
    "**/*.env",
    "!**/.env.example",
    "!**/.env.sample",
    "!**/.env.template",
    "!**/.env.dist",
    "**/.aws",
    "**/.ssh",
    "**/.netrc",
    "**/.npmrc",
    "**/.pypirc",
    "**/.git-credentials",
    "**/.htpasswd",
    "**/.docker",
    "**/.kube",
    "**/.kaggle",
    "**/kaggle.json",
    "**/id_rsa",
    "**/id_dsa",
    "**/id_ecdsa",
    "**/id_ed25519",
    "**/*.pem",
    "**/*.key",
    "**/*.p12",
    "**/*.pfx",
    "**/*.jks",
    "**/*.keystore",
    "**/*.tfstate",
    "**/*.tfvars",
    "**/credentials",
    "**/credentials.json",
    "**/client_secret*.json",
    "**/*service-account*.json",
    "**/*service_account*.json",
    "**/secrets.json",
    "**/secrets.toml",
    "**/secrets.yaml",
    "**/secrets.yml",
)
"""Files that hold credentials more often than not, by their names."""
LITTER = (
    "**/.git",
    "**/.hg",
    "**/.svn",
    "**/.venv",
    "venv",
    "**/__pycache__",
    "**/*.pyc",
    "**/.*_cache",
    "**/.ipynb_checkpoints",
    "**/node_modules",
    "**/.DS_Store",
    "**/._*",
    *(f"**/{name}" for name in DESKTOP_FILES),
    "byoc-jobs",
    "opt-ml",
)
"""Files that a program needs neither in an image nor in a container."""
DEFAULTS = (*SECRETS, *LITTER)
"""Patterns for an image whose folder has no Dockerfile."""
PROGRAM_LIMIT = 256 * 2**20
"""Bytes. A folder of code above it is a mistake more often than a program."""

_WILD = frozenset("*?[\\")
"""Characters with which the first part of an exception may match any folder."""
_SETS = re.compile(r"[\[&~|]")
"""Characters that may be operators in a class of Python, and are literal in one of Go."""


class Ignore:
    """Compiled rules; their paths are relative to the context, with slashes."""

    def __init__(self, lines: Sequence[str]) -> None:
        patterns = [pattern for line in lines if (pattern := _pattern(line)) is not None]
        self._rules = [
            (
                not is_exception,
                re.compile(f"(?:{_expression(name)})(?:/.*)?", re.DOTALL),
                name.partition("/")[0],
            )
            for is_exception, name in patterns
        ]

    def matches(self, path: str) -> bool:
        decision = False
        for leaves_out, pattern, _ in self._rules:
            if leaves_out != decision and pattern.fullmatch(path):
                decision = leaves_out
        return decision

    def prunes(self, folder: str) -> bool:
        """Return whether all of `folder` is left out, so that it need not be read.

        An exception counts only if it comes after the line that leaves the folder out.
        """
        first = folder.partition("/")[0]
        for leaves_out, pattern, top in reversed(self._rules):
            if leaves_out and pattern.fullmatch(folder):
                return True
            if not leaves_out and (top == first or _WILD.intersection(top)):
                return False
        return False


@functools.cache
def litter() -> Ignore:
    return Ignore(LITTER)


def walk(
    folder: Path, ignored: Ignore, left_out: list[str] | None = None
) -> Iterator[tuple[str, Path]]:
    """Yield the name in `folder`, and the path, of every folder, file and link that is taken along.

    `left_out` gets the names of the others, without those below a folder of which nothing is taken.
    Links are not followed.
    """
    for place, folders, names in os.walk(folder):
        start = Path(place).relative_to(folder).as_posix()
        prefix = "" if start == "." else f"{start}/"
        for name in sorted([*names, *folders]):
            if not ignored.matches(prefix + name):
                yield prefix + name, Path(place, name)
            elif left_out is not None:
                left_out.append(prefix + name)
        folders[:] = sorted(name for name in folders if not ignored.prunes(prefix + name))


def require_small(program: Path, size: int) -> None:
    """Raise RequestError for a program of more bytes than PROGRAM_LIMIT."""
    if size > PROGRAM_LIMIT:
        raise RequestError(
            f"the program folder {program} holds over {PROGRAM_LIMIT >> 20} MiB",
            hint="Name a folder that holds code only, and give data as a --channel; or leave it "
            f"out of an image with {program / FILE}",
        )


def read(context: Path, dockerfile: Path) -> Ignore:
    """Return the patterns of the Dockerfile's own file (BuildKit, podman), else of the context's.

    Raise RequestError for a line that Docker refuses.
    """
    for file in (dockerfile.with_name(f"{dockerfile.name}{FILE}"), context / FILE):
        if file.is_file():
            return Ignore(lines_of(file))
    return Ignore(())


def lines_of(file: Path) -> list[str]:
    """Raise RequestError, with the line, for a pattern that Docker refuses."""
    try:
        lines = file.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
    except OSError as error:
        raise RequestError(
            f"{file} can't be read: {error.strerror}", hint="Make it readable"
        ) from error
    for number, line in enumerate(lines, start=1):
        try:
            Ignore([line])
        except (ValueError, re.error) as error:
            raise RequestError(
                f"{file}:{number}: {line.strip()!r} is not a pattern: {error}",
                hint="Close each [, and write a name after !",
            ) from error
    return lines


def _pattern(line: str) -> tuple[bool, str] | None:
    """Return whether it is an exception, and the pattern; None for a line that says nothing."""
    if line.startswith("#"):  # only there: Docker looks before it strips the line
        return None
    text = line.strip()
    is_exception = text.startswith("!")
    name = text[1:].strip() if is_exception else text
    if not text:
        return None
    if not name:
        raise ValueError("an exception without a name")
    name = posixpath.normpath(name)
    # normpath keeps two leading slashes, Go's Clean one.
    return is_exception, name.lstrip("/") if len(name) > 1 else name


def _expression(pattern: str) -> str:
    """Return a regular expression for what patternmatcher's `compile` and `match` accept."""
    if pattern.startswith("**") and not set("*?[]\\") & set(pattern[2:]):
        # A suffix: `**.log` is any name that ends so, `**/x` is x in any folder.
        rest = pattern[2:]
        return f"(?:.*/)?{re.escape(rest[1:])}" if rest[:1] == "/" else f".*{re.escape(rest)}"
    made, at = "", 0
    while at < len(pattern):
        part, at = _token(pattern, at)
        made += part
    return made


def _token(pattern: str, at: int) -> tuple[str, int]:
    """Return the expression of one wildcard, class or character, and the index of the next."""
    char = pattern[at]
    if pattern.startswith("**", at):
        after = at + 3 if pattern.startswith("/", at + 2) else at + 2
        return (".*" if after >= len(pattern) else "(?:.*/)?"), after
    if char in "*?":
        return ("[^/]*" if char == "*" else "[^/]"), at + 1
    if char == "[":
        end = _class_end(pattern, at)
        return _class(pattern[at + 1 : end]), end + 1
    if char == "\\":
        if at + 1 == len(pattern):
            raise ValueError("a backslash at the end")
        return re.escape(pattern[at + 1]), at + 2
    return re.escape(char), at + 1


def _class(text: str) -> str:
    """Return a class of characters: Go knows `^`, ranges and escapes, and no sets."""
    sign = "^" if text.startswith("^") else ""
    return f"[{sign}{_SETS.sub(_escaped, text[len(sign) :])}]"


def _escaped(match: re.Match[str]) -> str:
    return f"\\{match[0]}"


def _class_end(pattern: str, at: int) -> int:
    at += 2 if pattern.startswith("^", at + 1) else 1
    first = at
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 1
        elif pattern[at] == "]" and at > first:
            return at
        at += 1
    raise ValueError("a [ that is not closed")
