"""`byoc build`: an image for one of the engines, from a program's folder.

For the process engine that is a copy of the folder and a Python, recorded under a name. For Docker
it is the toolkit's image with the folder copied on top, as the last lines of its Dockerfile do.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract import environment
from sagemaker_byoc.contract.files import write_json
from sagemaker_byoc.contract.lifecycle import SERVE_ARGUMENT, TRAIN_ARGUMENT
from sagemaker_byoc.contract.paths import DEFAULT_PROGRAM_DIR
from sagemaker_byoc.local.engines import docker, packing
from sagemaker_byoc.local.engines.process import ROOMS
from sagemaker_byoc.local.errors import MachineError, RequestError
from sagemaker_byoc.local.images import RecordedImages, Reference
from sagemaker_byoc.local.wire.errors import AwsError

BASES = {TRAIN_ARGUMENT.value: "byoc-train", SERVE_ARGUMENT.value: "byoc-serve"}
_LEFT_BEHIND = shutil.ignore_patterns(*sorted(packing.SKIPPED))
_IMPORT_SECONDS = 60.0
_BUILD_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    kind: str
    """train or serve."""
    program: Path
    """A folder."""
    entry_point: str | None
    """The file in it to start, where the user named one."""
    tag: str
    """REPOSITORY or REPOSITORY:TAG."""


def record(build: Build, state: Path, interpreter: Path) -> str:
    """For the process engine; the digest. The copy is whole before the name points to it."""
    reference = _reference(build.tag)
    _require_toolkit(interpreter, build.kind)
    images = RecordedImages(state)
    folder = packing.program_folder(build.program)
    digest = _digest_of(folder, build.kind, build.entry_point or "", str(interpreter))
    place = images.program(digest)
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=place.parent) as scratch:
            copy = Path(scratch) / "program"
            shutil.copytree(folder, copy, symlinks=True, ignore=_LEFT_BEHIND)
            copy.rename(place)
    variables = {} if build.entry_point is None else {environment.PROGRAM: build.entry_point}
    write_json(
        images.name_file(reference.repository, reference.tag),
        {
            "Name": reference.local_name,
            "Kind": build.kind,
            "Digest": digest,
            "Interpreter": str(interpreter),
            "Environment": json.dumps(variables),
        },
    )
    return digest


def build_image(build: Build) -> str:
    """For Docker; the image's id. Raises MachineError with the builder's own last words."""
    _reference(build.tag)
    base = BASES[build.kind]
    docker.require_image(base)
    folder = packing.program_folder(build.program)
    with tempfile.TemporaryDirectory(prefix="byoc-build-") as scratch:
        context = Path(scratch)
        shutil.copytree(folder, context / "program", symlinks=True, ignore=_LEFT_BEHIND)
        (context / "Dockerfile").write_text(_dockerfile(base, build.entry_point, context))
        _run_build(context, build.tag)
    return docker.run(["image", "inspect", "--format", "{{.Id}}", build.tag]).strip()


def _run_build(context: Path, tag: str) -> None:
    command = [docker.client(), "build", "--tag", tag, "--platform", "linux/amd64", str(context)]
    # Either builder will do: the Dockerfile needs nothing of BuildKit.
    variables = {**os.environ, "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
    result = subprocess.run(
        command,
        env=variables,
        stdout=sys.stderr,
        stderr=sys.stderr,
        check=False,
        timeout=_BUILD_SECONDS,
    )
    if result.returncode != 0:
        raise MachineError(
            f"docker build ended with exit code {result.returncode}",
            cure="Mend what it printed above",
        )


def _dockerfile(base: str, entry_point: str | None, context: Path) -> str:
    lines = [f"FROM {base}", f"RUN rm -rf {DEFAULT_PROGRAM_DIR} && mkdir {DEFAULT_PROGRAM_DIR}"]
    lines.append(f"COPY program {DEFAULT_PROGRAM_DIR}/")
    if (context / "program" / "requirements.txt").is_file():
        lines.append("RUN pip install --requirement requirements.txt")
    lines.append(f"RUN chmod -R a+rX {DEFAULT_PROGRAM_DIR}")
    if entry_point is not None:
        lines.append(f"ENV {environment.PROGRAM}={entry_point}")
    return "\n".join(lines) + "\n"


def _reference(tag: str) -> Reference:
    try:
        reference = Reference.parse(tag)
    except AwsError as error:
        raise RequestError(error.message, cure="Change --tag") from error
    if reference.digest:
        raise RequestError(f"--tag {tag!r} holds a digest", cure="Give REPOSITORY:TAG")
    return reference


def _require_toolkit(interpreter: Path, kind: str) -> None:
    command = [str(interpreter), "-I", "-c", f"import {ROOMS[kind]}"]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_IMPORT_SECONDS
        )
    except OSError as error:
        raise RequestError(
            f"{interpreter} can't be run ({error.strerror})", cure="Name a Python with --python"
        ) from error
    if result.returncode != 0:
        raise RequestError(
            f"{interpreter} can't import {ROOMS[kind]}: {result.stderr.strip()[-300:]}",
            cure="Install sagemaker-byoc for it, or name another Python with --python",
        )


def _digest_of(folder: Path, *words: str) -> str:
    digest = hashlib.sha256("\0".join(words).encode())
    for path in _files(folder):
        content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        digest.update(f"\0{path.relative_to(folder)}\0{path.lstat().st_mode:o}\0".encode())
        digest.update(hashlib.sha256(content).digest())
    return f"sha256:{digest.hexdigest()}"


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in packing.SKIPPED)
        for name in sorted(names):
            if name not in packing.SKIPPED:
                yield Path(place, name)
