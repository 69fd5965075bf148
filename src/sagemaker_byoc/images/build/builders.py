"""The program that builds: BuildKit, Docker's legacy builder, podman or buildah."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sagemaker_byoc.contract.errors import MachineError, RequestError
from sagemaker_byoc.host import docker, owners

BUILDX, BUILDKIT, LEGACY, PODMAN, BUILDAH = "buildx", "buildkit", "legacy", "podman", "buildah"
NAMES = (BUILDX, BUILDKIT, LEGACY, PODMAN, BUILDAH)
_SECONDS = 30.0
_ENGINE = ("version", "--format", "{{.Server.Version}}")
_NEEDS_BUILDX = 23
"""Docker's client from this version on builds with BuildKit through its plug-in only."""
_HAS_BUILDKIT = (18, 9)
"""The engine from this version on has BuildKit in it."""

Ask = Callable[[list[str]], str | None]
"""Function that returns a command's standard output; None if it fails or is missing."""
Explain = Callable[[list[str]], MachineError]
"""Function that returns why a command fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    name: str
    version: str
    command: tuple[str, ...]
    """The command line, to which the context, the tags and the like are added."""
    environment: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    """What a user should know of this choice."""

    @property
    def is_buildkit(self) -> bool:
        return self.name in {BUILDX, BUILDKIT}

    @property
    def is_daemonless(self) -> bool:
        return self.name in {PODMAN, BUILDAH}

    @property
    def title(self) -> str:
        words = {
            BUILDX: "BuildKit (docker buildx",
            BUILDKIT: "BuildKit (of the docker engine",
            LEGACY: "the legacy builder (docker",
            PODMAN: "podman (",
            BUILDAH: "buildah (",
        }
        return f"{words[self.name]} {self.version})".replace("( ", "(")

    def inspect(self, image: str) -> list[str]:
        """Return the command that prints the image's id."""
        if self.name == BUILDAH:
            form = "{{.FromImageID}}"
            return [self.command[0], "inspect", "--type", "image", "--format", form, image]
        return [self.command[0], "image", "inspect", "--format", "{{.Id}}", image]

    def tag(self, image: str, name: str) -> list[str]:
        return [self.command[0], "tag", image, name]

    def untag(self, name: str) -> list[str]:
        """Return the command that removes one of several names."""
        words = ["rmi"] if self.name == BUILDAH else ["image", "rm"]
        return [self.command[0], *words, name]

    def variables(self) -> dict[str, str]:
        return {**os.environ, **self.environment}


def ask(command: list[str]) -> str | None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def choose(
    wanted: str | None,
    environment: Mapping[str, str],
    ask: Ask = ask,
    explain: Explain = docker.explain,
) -> Builder:
    """Return `wanted`, or the best there is. Raise MachineError if it is not available."""
    if wanted in {PODMAN, BUILDAH}:
        return _without_daemon(wanted, ask)
    client = environment.get(docker.VARIABLE)
    if client is None and shutil.which("docker") is None and wanted is None:
        found = [name for name in (PODMAN, BUILDAH) if shutil.which(name)]
        if found:
            return _without_daemon(found[0], ask)
    client = docker.client(environment)
    said = ask([client, "--version"])
    if said is None:
        raise explain([client, "--version"])
    if re.match(r"(podman|buildah)\b", said):
        return _without_daemon(client, ask)
    engine = ask([client, *_ENGINE])
    if engine is None:
        raise explain([client, *_ENGINE])
    return _docker(_Client(client, _version(said), engine.strip()), wanted, environment, ask)


def _without_daemon(program: str, ask: Ask) -> Builder:
    said = ask([program, "--version"])
    if said is None:
        raise MachineError(
            f"there is no {program}", hint=f"apt-get install {program}, or another --builder"
        )
    name = BUILDAH if "buildah" in said else PODMAN
    # OCI is their default, and SageMaker refuses it.
    command = (program, "build", "--format", "docker", "--layers")
    note = f"the image is in {name}'s own store, where no docker engine sees it"
    return Builder(name=name, version=_version(said), command=command, note=note)


@dataclass(frozen=True, slots=True)
class _Client:
    program: str
    version: str
    engine: str
    """The engine's version."""


def _docker(
    client: _Client, wanted: str | None, environment: Mapping[str, str], ask: Ask
) -> Builder:
    legacy = Builder(
        name=LEGACY,
        version=f"{client.version}, engine {client.engine}",
        # Without the flag a step that fails leaves its container behind.
        command=(client.program, "build", "--force-rm"),
        environment={"DOCKER_BUILDKIT": "0"},
    )
    if wanted == LEGACY or (wanted is None and environment.get("DOCKER_BUILDKIT") == "0"):
        return legacy
    if (
        wanted in {None, BUILDX}
        and (plugin := ask([client.program, "buildx", "version"])) is not None
    ):
        return _buildx(client.program, plugin, ask)
    if wanted in {None, BUILDKIT} and _has_buildkit(client.version, client.engine):
        return Builder(
            name=BUILDKIT,
            version=client.engine,
            command=(client.program, "build"),
            environment={"DOCKER_BUILDKIT": "1"},
        )
    if wanted is not None:
        raise MachineError(
            f"docker {client.version} here can't build with {wanted}",
            hint="Install its plug-in: apt-get install docker-buildx; or leave --builder out",
        )
    return Builder(
        name=LEGACY,
        version=legacy.version,
        command=legacy.command,
        environment=legacy.environment,
        note=f"docker {client.version} finds no buildx, so RUN --mount is not available; "
        "`apt-get install docker-buildx` brings it",
    )


def _buildx(client: str, said: str, ask: Ask) -> Builder:
    """Return options against attestations, which make an index; older plug-ins have none."""
    known = ask([client, "buildx", "build", "--help"]) or ""
    flags = [
        f"{flag}=false" for flag in ("--provenance", "--sbom") if re.search(rf"{flag}\b", known)
    ]
    return Builder(
        name=BUILDX,
        version=_version(said),
        command=(client, "buildx", "build", *flags, "--output", "type=docker"),
        environment={"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"},
    )


def _has_buildkit(client: str, engine: str) -> bool:
    numbers = [
        tuple(int(part) for part in re.findall(r"\d+", text)[:2]) for text in (client, engine)
    ]
    return all(number >= _HAS_BUILDKIT for number in numbers) and numbers[0][0] < _NEEDS_BUILDX


def _version(said: str) -> str:
    found = re.search(r"\d+(\.\d+)+", said)
    return found[0] if found else "of unknown version"


_NEEDS_BUILDKIT = re.compile(
    r"^\s*(?:(?P<run>RUN)\s+--(?P<flag>mount|network|security)\b"
    r"|(?P<copy>COPY|ADD)\s+(?:--\S+\s+)*--(?P<copy_flag>link|chmod|parents|exclude|checksum)\b"
    r"|(?P<heredoc>RUN|COPY)\b[^#\n]*<<-?['\"]?[A-Za-z_]\w*)",
    re.IGNORECASE,
)


def require_understood(builder: Builder, dockerfile: str, where: str) -> None:
    """Raise RequestError, with the line, for what the legacy builder doesn't know."""
    if builder.name != LEGACY:
        return
    for number, line in enumerate(dockerfile.splitlines(), start=1):
        match = _NEEDS_BUILDKIT.match(line)
        if match:
            flag = match["flag"] or match["copy_flag"]
            word = f"{match['run'] or match['copy']} --{flag}" if flag else "a here-document"
            raise RequestError(
                f"{where}:{number} has {word}, which {builder.title} does not know",
                hint="Build with BuildKit (apt-get install docker-buildx; docker before 23: "
                "DOCKER_BUILDKIT=1), or with --builder podman",
            )


_PREFIX = "byoc-building-"


def of_this_process() -> str:
    return _PREFIX + (owners.as_name(owners.me()) or uuid.uuid4().hex)


def sweep(repository: str, builder: Builder, ask: Ask) -> None:
    """Remove the tags of a repository that ended processes left."""
    if builder.name == BUILDAH:
        return
    tags = ask([builder.command[0], "image", "ls", "--format", "{{.Tag}}", repository]) or ""
    for tag in tags.split():
        identity = owners.of_name(tag.removeprefix(_PREFIX))
        if tag.startswith(_PREFIX) and owners.is_dead(identity):
            ask(builder.untag(f"{repository}:{tag}"))
