"""One build: the builder's command line, its run, and the image that came out of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sagemaker_byoc.contract.requirements import MARK
from sagemaker_byoc.images import reference
from sagemaker_byoc.images.building import base, builders, commit, context, secrets, stamp
from sagemaker_byoc.images.building.builders import Builder
from sagemaker_byoc.images.building.commit import SHORT
from sagemaker_byoc.images.errors import ImageError, MachineError, RequestError, TimeLimitError

AUTO, PLAIN, QUIET = "auto", "plain", "quiet"
PROGRESS = (AUTO, PLAIN, QUIET)
CONTENT_LABEL = "sagemaker-byoc.content"
LATEST = "latest"
_LARGE = 512 * 2**20
"""Bytes of a context from which on a build waits for the copying of it."""
_LAST_LINES = 25
_SHOWN = 8
_QUICK = 60.0
_GRACE = 20.0

Say = Callable[[str], None]


class BuildError(ImageError):
    """The builder's own refusal: a line of the Dockerfile failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    context: Path
    dockerfile: Path
    tag: str
    """REPOSITORY, whose tag is then made from the image's id, or REPOSITORY:TAG."""
    source: Path
    """The folder whose commit is the image's."""
    arguments: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    """As BuildKit takes them: id=NAME,src=FILE or id=NAME,env=VARIABLE."""
    bases: tuple[str, ...] = ()
    """Ids of local images that it builds on: a new one makes a new content."""
    builder: str | None = None
    progress: str = AUTO
    cache: bool = True
    pull: bool = False
    seconds: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    image: str
    """REPOSITORY:TAG."""
    id: str
    """sha256:… of the image's configuration."""
    tags: tuple[str, ...]
    content: str
    commit: str
    builder: Builder
    seconds: float


def build(request: BuildRequest, say: Say, warn: Say) -> Built:
    """Raises RequestError, MachineError, TimeLimitError, or BuildError after what was printed."""
    began = time.monotonic()
    name = reference.parse(request.tag)
    if name.digest:
        raise RequestError(f"--tag {request.tag!r} holds a digest", cure="Give REPOSITORY:TAG")
    dockerfile = _read(request.dockerfile)
    secrets.require_public("--build-arg", request.arguments)
    secrets.require_public("--label", request.labels)
    builder = builders.choose(request.builder, os.environ)
    builders.require_understood(builder, dockerfile, str(request.dockerfile))
    secrets.require_support(builder, request.secrets)
    found = context.content(request.context, request.dockerfile, request.arguments, *request.bases)
    if found.size > _LARGE:
        warn(
            f"{request.context} holds {found.size / 1e6:.0f} MB in {found.files} files, all of "
            "which the builder is sent: .dockerignore leaves out what the image does not need"
        )
    if found.secrets:
        names = ", ".join(found.secrets[:_SHOWN])
        warn(
            f"by their names secrets, and the builder is sent them: {names}; name them in "
            ".dockerignore unless the image needs them"
        )
    at = commit.read(request.source)
    repository = str(reference.Reference(name.registry, name.repository))
    # Until its id is known, an image without a tag of the user's has one that nobody else uses.
    first = f"{repository}:{name.tag or f'byoc-{uuid.uuid4().hex[:SHORT]}'}"
    say(f"building {first if name.tag else repository} with {builder.title}")
    if builder.note:
        warn(builder.note)
    own = base.labels(base.base_of(dockerfile, request.arguments), builder, builders.ask)
    labels = _labels(at, found.digest) | own | dict(request.labels)
    _run(_command(builder, request, first, labels), builder, request, warn)
    try:
        _stamp(first, builder, warn)
        identity = _id(builder, first)
        tags = [first] if name.tag else _named(first, identity, at, builder)
    finally:
        if not name.tag:
            builders.ask(builder.untag(first))
    return Built(
        image=tags[0],
        id=identity,
        tags=tuple(tags),
        content=found.digest,
        commit=at.revision,
        builder=builder,
        seconds=time.monotonic() - began,
    )


def _named(image: str, identity: str, at: commit.Commit, builder: Builder) -> list[str]:
    """Tag the image by its commit and id, so that one tag never means two images, and as latest."""
    repository = image.rpartition(":")[0]
    own = commit.tag(at, identity.rpartition(":")[2])
    tags = [f"{repository}:{own}", f"{repository}:{LATEST}"]
    for name in tags:
        if builders.ask(builder.tag(image, name)) is None:
            raise MachineError(
                f"{builder.title} can't tag {image} as {name}", cure="`byoc doctor` looks closer"
            )
    return tags


def _stamp(image: str, builder: Builder, warn: Say) -> None:
    """Correct what the labels say of torch, if it is not what the Dockerfile's argument asked."""
    wrong = stamp.wrong_labels(image, builder, builders.ask)
    if wrong is None:
        warn(f"no torch was found in {image}, so its labels are as the Dockerfile sets them")
    if not wrong:
        return
    text = ", ".join(f"{name}={value}" for name, value in wrong.items())
    failed = stamp.put(image, wrong, builder, context.PLATFORM)
    warn(f"labels by the torch that is installed: {text}{f' (failed: {failed})' if failed else ''}")


def _read(dockerfile: Path) -> str:
    try:
        return dockerfile.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(
            f"{dockerfile} can't be read: {error}", cure="Name another with --file"
        ) from error


def _labels(at: commit.Commit, content: str) -> dict[str, str]:
    """The commit's time and not this one's: the same content stays the same image."""
    found = {
        "org.opencontainers.image.revision": at.revision,
        "org.opencontainers.image.source": at.source,
        "org.opencontainers.image.created": at.created,
        CONTENT_LABEL: content,
    }
    return {name: value for name, value in found.items() if value}


def _command(
    builder: Builder, request: BuildRequest, tag: str, labels: Mapping[str, str]
) -> list[str]:
    command = [*builder.command, "--platform", context.PLATFORM]
    command += ["--file", str(request.dockerfile), "--tag", tag]
    for name, value in sorted(request.arguments.items()):
        command += ["--build-arg", f"{name}={value}"]
    for name, value in sorted(labels.items()):
        command += ["--label", f"{name}={value}"]
    for secret in request.secrets:
        command += ["--secret", secret]
    if builder.is_buildkit and not _is_watched(request):
        command += ["--progress", PLAIN]
    if not request.cache:
        command.append("--no-cache")
    if request.pull:
        command.append("--pull")
    return [*command, str(request.context)]


def _is_watched(request: BuildRequest) -> bool:
    """Only then does the builder redraw its progress."""
    return request.progress == AUTO and sys.stderr.isatty()


def _run(command: list[str], builder: Builder, request: BuildRequest, warn: Say) -> None:
    """The builder's words go to stderr as they are; `quiet` keeps them for a failure."""
    quiet = request.progress == QUIET
    sys.stderr.flush()
    try:
        process = subprocess.Popen(
            command,
            env=builder.variables(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if quiet else sys.stderr,
            stderr=subprocess.STDOUT if quiet else sys.stderr,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise MachineError(
            f"{command[0]} can't be run: {error.strerror}", cure="`byoc doctor` looks closer"
        ) from error
    try:
        said, _ = process.communicate(timeout=request.seconds)
    except subprocess.TimeoutExpired as error:
        raise TimeLimitError(
            f"the build did not end within {request.seconds:.0f} s",
            cure="Give it more with --timeout; what it has done so far is cached",
        ) from error
    finally:
        _end(process)
    if process.returncode != 0:
        for line in deque((said or "").splitlines(), _LAST_LINES):
            warn(line)
        causes = re.findall(rf"{MARK}(.+?)(?:\x1b\[0m)?$", said or "", re.MULTILINE)
        why = f": {causes[-1]}" if causes else ""
        raise BuildError(
            f"{builder.title} ended with exit code {process.returncode} "
            f"at a line of {request.dockerfile}{why}",
            cure="Correct what it printed above, and build again: what succeeded is cached",
        )


def _end(process: subprocess.Popen[str]) -> None:
    """After Ctrl-C or a time limit: the client is asked, for it has an engine to tell."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
    if process.poll() is None:
        process.kill()
        process.wait()


def _id(builder: Builder, image: str) -> str:
    try:
        done = subprocess.run(
            builder.inspect(image),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_QUICK,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MachineError(
            f"{builder.title} can't say what it built: {error}", cure="`byoc doctor` looks closer"
        ) from error
    if done.returncode != 0:
        raise MachineError(
            f"{image} was built, and {builder.title} does not find it: {done.stderr.strip()}",
            cure="buildx with a builder of its own needs: docker buildx use default",
        )
    identity = done.stdout.strip()
    return identity if ":" in identity else f"sha256:{identity}"
