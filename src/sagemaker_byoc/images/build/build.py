"""One build: the builder's command line, its run, and the image that came out of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import IO

from sagemaker_byoc.contract.errors import MachineError, RequestError, TimeLimitError
from sagemaker_byoc.contract.requirements import MARK
from sagemaker_byoc.host import registry_images
from sagemaker_byoc.host.children import Child, Process
from sagemaker_byoc.images.build import builders, contexts
from sagemaker_byoc.images.build import labels as image_labels
from sagemaker_byoc.images.build.builders import LEGACY, Builder
from sagemaker_byoc.images.check.rules import secret_shapes
from sagemaker_byoc.images.model import ImageError

AUTO, PLAIN, QUIET = "auto", "plain", "quiet"
PROGRESS = (AUTO, PLAIN, QUIET)
CONTENT_LABEL = "sagemaker-byoc.content"
LATEST = "latest"
_LARGE = 512 * 2**20
"""Bytes of a context from which on a build waits for the copying of it."""
_LAST_LINES = 25
_KEPT_LINES = 2000
_LONGEST_LINE = 2**16
_SHOWN = 8
_QUICK = 60.0
_GRACE = 20.0
_SECRET_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SECRET_PLACES = ("src", "source", "env")
_STEP = re.compile(r" ---> Running in ([0-9a-f]{12})$")
"""What the legacy builder prints when it starts a step."""

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


@dataclass(frozen=True, slots=True)
class Output:
    """Where a build reports what it does."""

    say: Say
    """Gets each step."""
    warn: Say
    """Gets warnings about a step."""
    line: Say
    """Gets each line of the builder as it is: a step may print anything."""


def build(request: BuildRequest, out: Output) -> Built:
    """Build, stamp and tag an image.

    Raise RequestError, MachineError, TimeLimitError, or BuildError after what was shown.
    """
    began = time.monotonic()
    name = registry_images.parse(request.tag)
    if name.digest:
        raise RequestError(f"--tag {request.tag!r} holds a digest", hint="Give REPOSITORY:TAG")
    dockerfile = _read(request.dockerfile)
    require_public("--build-arg", request.arguments)
    require_public("--label", request.labels)
    builder = builders.choose(request.builder, os.environ)
    builders.require_understood(builder, dockerfile, str(request.dockerfile))
    require_support(builder, request.secrets)
    found = contexts.content(request.context, request.dockerfile, request.arguments, *request.bases)
    _warn_of(found, request.context, out.warn)
    at = image_labels.read_commit(request.source)
    repository = str(registry_images.Reference(name.registry, name.repository))
    first = f"{repository}:{name.tag or builders.of_this_process()}"
    out.say(f"building {first if name.tag else repository} with {builder.title}")
    if builder.note:
        out.warn(builder.note)
    builders.sweep(repository, builder, builders.ask)
    own = image_labels.labels(
        image_labels.base_of(dockerfile, request.arguments), builder, builders.ask
    )
    labels = _labels(at, found.digest) | own | dict(request.labels)
    try:
        _run(_command(builder, request, first, labels), builder, request, out)
        _stamp(first, builder, out.warn)
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


def _warn_of(found: contexts.Content, folder: Path, warn: Say) -> None:
    if found.size > _LARGE:
        warn(
            f"{folder} holds {found.size / 1e6:.0f} MB in {found.files} files, all of which the "
            "builder is sent: .dockerignore leaves out what the image does not need"
        )
    if found.secrets:
        shown = ", ".join(found.secrets[:_SHOWN])
        warn(
            f"by their names secrets, and the builder is sent them: {shown}; name them in "
            ".dockerignore unless the image needs them"
        )


def _named(image: str, identity: str, at: image_labels.Commit, builder: Builder) -> list[str]:
    """Tag the image by its commit and id, so that one tag never means two images, and as latest."""
    repository = image.rpartition(":")[0]
    own = image_labels.tag(at, identity.rpartition(":")[2])
    tags = [f"{repository}:{own}", f"{repository}:{LATEST}"]
    for name in tags:
        if builders.ask(builder.tag(image, name)) is None:
            raise MachineError(
                f"{builder.title} can't tag {image} as {name}", hint="`byoc doctor` looks closer"
            )
    return tags


def _stamp(image: str, builder: Builder, warn: Say) -> None:
    """Correct what the labels say of torch, if it is not what the Dockerfile's argument asked."""
    wrong = image_labels.wrong_labels(image, builder, builders.ask)
    if wrong is None:
        warn(f"no torch was found in {image}, so its labels are as the Dockerfile sets them")
    if not wrong:
        return
    text = ", ".join(f"{name}={value}" for name, value in wrong.items())
    failed = image_labels.put(image, wrong, builder, contexts.PLATFORM)
    warn(f"labels by the torch that is installed: {text}{f' (failed: {failed})' if failed else ''}")


def _read(dockerfile: Path) -> str:
    try:
        return dockerfile.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(
            f"{dockerfile} can't be read: {error}", hint="Name another with --file"
        ) from error


def _labels(at: image_labels.Commit, content: str) -> dict[str, str]:
    """Return labels, with the commit's time: the same content stays the same image."""
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
    command = [*builder.command, "--platform", contexts.PLATFORM]
    command += ["--file", str(request.dockerfile), "--tag", tag]
    for name, value in sorted(request.arguments.items()):
        command += ["--build-arg", f"{name}={value}"]
    for name, value in sorted(labels.items()):
        command += ["--label", f"{name}={value}"]
    for secret in request.secrets:
        command += ["--secret", secret]
    if builder.is_buildkit and not _is_watched(builder, request):
        command += ["--progress", PLAIN]
    if not request.cache:
        command.append("--no-cache")
    if request.pull:
        command.append("--pull")
    return [*command, str(request.context)]


def _is_watched(builder: Builder, request: BuildRequest) -> bool:
    """Tell whether BuildKit redraws its progress in the terminal, and escapes what steps print."""
    return builder.is_buildkit and request.progress == AUTO and sys.stderr.isatty()


def _run(command: list[str], builder: Builder, request: BuildRequest, out: Output) -> None:
    """Show the builder's lines as they come; `quiet` keeps the last ones for a failure."""
    quiet = request.progress == QUIET
    sys.stderr.flush()
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    with Child(lambda: _start(command, builder, request), _end) as process:
        # The reader closes it: what a builder leaves behind may hold the other end.
        stream, process.stdout = process.stdout, None
        reader = Thread(
            target=_read_lines, args=(stream, kept, None if quiet else out.line), daemon=True
        )
        reader.start()
        try:
            process.wait(request.seconds)
        except subprocess.TimeoutExpired as error:
            raise TimeLimitError(
                f"the build did not end within {request.seconds:.0f} s",
                hint="Give it more with --timeout; what it has done so far is cached",
            ) from error
        finally:
            ended = _end(process)
            reader.join(_GRACE)
            if ended and builder.name == builders.LEGACY:
                _remove_step(builder, kept)
    if process.returncode != 0:
        for line in list(kept)[-_LAST_LINES:] if quiet else ():
            out.line(line)
        causes = re.findall(rf"{MARK}(.+?)(?:\x1b\[0m)?$", "\n".join(kept), re.MULTILINE)
        why = f": {causes[-1]}" if causes else ""
        raise BuildError(
            f"{builder.title} ended with exit code {process.returncode} "
            f"at a line of {request.dockerfile}{why}",
            hint="Correct what it printed above, and build again: what succeeded is cached",
        )


def _start(command: list[str], builder: Builder, request: BuildRequest) -> Process:
    watched = _is_watched(builder, request)
    try:
        return subprocess.Popen(
            command,
            env=builder.variables(),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr if watched else subprocess.PIPE,
            stderr=sys.stderr if watched else subprocess.STDOUT,
        )
    except OSError as error:
        raise MachineError(
            f"{command[0]} can't be run: {error.strerror}", hint="`byoc doctor` looks closer"
        ) from error


def _read_lines(stream: IO[bytes] | None, kept: deque[str], show: Say | None) -> None:
    """Read to the end: the builder must not wait for a reader."""
    if stream is None:
        return
    with stream:
        while data := stream.readline(_LONGEST_LINE):
            line = data.decode(errors="replace").rstrip("\r\n")
            kept.append(line)
            if show is not None:
                show(line)


def _end(process: Process) -> bool:
    """Stop the client after a signal or a time limit; return whether it still ran.

    It is asked first, so that it can stop the engine's work.
    """
    if process.poll() is not None:
        return False
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
    if process.poll() is None:
        process.kill()
        process.wait()
    return True


def _remove_step(builder: Builder, lines: Iterable[str]) -> None:
    """Remove the container of the last step, which the engine does later than its client ends."""
    found = [match[1] for line in lines if (match := _STEP.match(line))]
    if found:
        builders.ask([builder.command[0], "rm", "--force", "--volumes", found[-1]])


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
            f"{builder.title} can't say what it built: {error}", hint="`byoc doctor` looks closer"
        ) from error
    if done.returncode != 0:
        raise MachineError(
            f"{image} was built, and {builder.title} does not find it: {done.stderr.strip()}",
            hint="buildx with a builder of its own needs: docker buildx use default",
        )
    identity = done.stdout.strip()
    return identity if ":" in identity else f"sha256:{identity}"


# ── secrets: given to BuildKit for one step, and never as an argument or a label ──


def parse_secret(text: str, environ: Mapping[str, str]) -> str:
    """Return `--secret`'s value for BuildKit; RequestError if there is nothing to read it from."""
    pairs = [part.partition("=") for part in text.split(",")]
    found = {key.strip(): value for key, _, value in pairs}
    name = found.get("id", "")
    strange = set(found) - {"id", "type", *_SECRET_PLACES}
    if strange or not _SECRET_ID.fullmatch(name) or not all(equals for _, equals, _ in pairs):
        raise RequestError(
            f"--secret {text!r} is not a secret of BuildKit's",
            hint="Write --secret id=NAME,src=FILE or --secret id=NAME,env=VARIABLE",
        )
    file = found.get("src") or found.get("source")
    if file is not None:
        if not Path(file).is_file():
            raise RequestError(f"--secret {name}: there is no file {file}", hint="Correct src=")
        return f"id={name},src={file}"
    variable = found.get("env") or name
    if variable not in environ:
        raise RequestError(
            f"--secret {name}: the variable {variable} is not set",
            hint=f"Set it, or give a file: --secret id={name},src=FILE",
        )
    return f"id={name},env={variable}"


def secret_name(secret: str) -> str:
    return secret.partition(",")[0].removeprefix("id=")


def require_public(option: str, pairs: Mapping[str, str]) -> None:
    """Raise RequestError for a value that would be readable in the image's history or labels."""
    for name, value in pairs.items():
        found = secret_shapes.in_data(value.encode("utf-8", "surrogateescape"), strict=False)
        if found or secret_shapes.is_secret(name, value):
            what = f"holds {found[0].what}" if found else "is by its name a secret"
            raise RequestError(
                f"{option} {name} {what}, and everyone who has the image can read it",
                hint=f"Give it as --secret id={name},env={name}, and in the Dockerfile: "
                f"RUN --mount=type=secret,id={name} …, which reads /run/secrets/{name}",
            )


def require_support(builder: Builder, secrets: tuple[str, ...]) -> None:
    if secrets and builder.name == LEGACY:
        raise RequestError(
            f"--secret needs BuildKit, and this is {builder.title}",
            hint="apt-get install docker-buildx (docker before 23: DOCKER_BUILDKIT=1), or "
            "--builder podman",
        )
