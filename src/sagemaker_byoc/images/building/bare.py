"""A context for a program that has no Dockerfile: the toolkit's image with the program on top."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sagemaker_byoc.contract import environment
from sagemaker_byoc.contract.paths import DEFAULT_PROGRAM_DIR
from sagemaker_byoc.images import docker
from sagemaker_byoc.images.errors import RequestError

BASES = {"train": "byoc-train", "serve": "byoc-serve"}
SKIPPED = frozenset(
    {".git", ".venv", "__pycache__", "node_modules", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
)
_INSTALL = (
    "python -m venv /tmp/tools"
    " && /tmp/tools/bin/pip --python /opt/venv/bin/python install --no-cache-dir"
    " --requirement requirements.txt && rm -rf /tmp/tools"
)
"""The serving image has no pip of its own."""
LIMIT = 256 * 2**20
"""Bytes. A folder of code above it is a mistake more often than a program."""


@dataclass(frozen=True, slots=True)
class BareContext:
    folder: Path
    dockerfile: Path
    base: str
    """The id of the image it builds on."""


@contextmanager
def prepared(kind: str, program: Path, entry_point: str | None) -> Iterator[BareContext]:
    """A temporary folder, gone at the end. Raises RequestError where the toolkit's image is not."""
    found = docker.inspect("image", BASES[kind])
    if found is None:
        raise RequestError(
            f"{program} has no Dockerfile.{kind}, and the engine has no image {BASES[kind]} "
            "to put the program on",
            cure="`byoc init` writes a Dockerfile; or build the toolkit's images: "
            "scripts/build-images",
        )
    _require_small(program)
    with TemporaryDirectory(prefix="byoc-build-") as scratch:
        folder = Path(scratch)
        shutil.copytree(
            program, folder / "program", symlinks=True, ignore=shutil.ignore_patterns(*SKIPPED)
        )
        dockerfile = folder / "Dockerfile"
        dockerfile.write_text(_text(kind, entry_point, folder / "program"))
        yield BareContext(folder, dockerfile, str(found["Id"]))


def _text(kind: str, entry_point: str | None, program: Path) -> str:
    lines = [f"FROM {BASES[kind]}"]
    lines.append(f"RUN rm -rf {DEFAULT_PROGRAM_DIR} && mkdir {DEFAULT_PROGRAM_DIR}")
    if (program / "requirements.txt").is_file():
        # Of a change to the program itself, nothing is installed anew.
        lines.append(f"COPY program/requirements.txt {DEFAULT_PROGRAM_DIR}/")
        lines.append(f"RUN {_INSTALL}")
    lines.append(f"COPY program {DEFAULT_PROGRAM_DIR}/")
    lines.append(f"RUN chmod -R a+rX {DEFAULT_PROGRAM_DIR}")
    if entry_point is not None:
        lines.append(f"ENV {environment.PROGRAM}={entry_point}")
    return "\n".join(lines) + "\n"


def _require_small(program: Path) -> None:
    total = 0
    for place, folders, names in os.walk(program):
        folders[:] = [name for name in folders if name not in SKIPPED]
        total += sum(Path(place, name).lstat().st_size for name in names)
        if total > LIMIT:
            raise RequestError(
                f"the program folder {program} holds over {LIMIT >> 20} MiB",
                cure="Name a folder that holds code only, and give data as a channel",
            )
