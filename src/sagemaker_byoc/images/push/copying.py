"""One push as data, and its steps that copy the image, with skopeo or with docker.

A step can be printed and run. `Push` holds what is asked for, and what the steps have found out.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.request import getproxies_environment

from sagemaker_byoc.contract.errors import ByocError, MachineError, RequestError
from sagemaker_byoc.host import docker, registry_images
from sagemaker_byoc.host.registry_images import Reference
from sagemaker_byoc.images.archive import read_archive
from sagemaker_byoc.images.lookup import REMOTE, archive_path
from sagemaker_byoc.images.model import DOCKER_MANIFEST, Config, Image, Manifest
from sagemaker_byoc.images.push import programs
from sagemaker_byoc.images.push.programs import CopyError, How, Layers, Screen
from sagemaker_byoc.images.registry import Login, Registry, Stored

_SNAPSHOTTER = "io.containerd.snapshotter"
"""Status of containerd's image store, which pushes the media types that an image came with."""
_OWN_AUTHORITIES = ("SSL_CERT_FILE", "AWS_CA_BUNDLE")
TAG = "TAG"
"""Stands in a plan for twelve digits of the configuration's digest."""
UNKNOWN_REGISTRY = "REGISTRY"
"""Stands in a plan for what an endpoint other than AWS's calls its registry."""
_FOLDER = Path("PRIVATE_FOLDER")
"""Stands in a plan for the temporary folder of the push."""

FindLogin = Callable[[str], Login | None]
"""Function that returns the login of a registry."""


@dataclass(frozen=True, slots=True)
class Step:
    """A command or request. `run` does it, or skips it if it is not needed."""

    do: str
    run: Callable[[], None]
    why: str = ""


def run_steps(steps: Iterable[Step]) -> None:
    for step in steps:
        step.run()


@dataclass(slots=True, kw_only=True)
class Push:
    """One push: what is asked for, and what its steps have found out so far."""

    source: str
    """As `byoc check` takes it: docker://…, oci:DIR, docker-archive:FILE, a path, or a name."""
    platform: str
    destination: Reference
    """In a plan with placeholders; the tag is empty if the content makes it."""
    find_login: FindLogin
    screen: Screen
    plain: bool = False
    """Without TLS."""
    insecure: bool = False
    """Whether a registry on another machine may be without TLS."""
    by_skopeo: bool = False
    """skopeo copies the image, and not docker; known once the copy is planned."""
    immutable: bool = False
    """Its tags can't be moved."""
    folder: Path = _FOLDER
    """Private, on a disk with room for the image."""
    undo: ExitStack = field(default_factory=ExitStack)
    image: Image | None = None
    local: str = ""
    """The name that the engine has for the image."""
    is_there: bool = False
    """The tag had the image already: nothing is sent."""
    layers: Layers = field(init=False)
    stored: Stored | None = None
    """What the tag names after the push."""
    manifest: Manifest | None = None
    config: Config | None = None
    _logins: dict[str, Login | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.layers = Layers(self.screen)

    def login(self, registry: str) -> Login | None:
        if registry not in self._logins:
            self._logins[registry] = self.find_login(registry)
        return self._logins[registry]

    @property
    def target(self) -> Reference:
        return replace(self.destination, tag=self.destination.tag or TAG)

    @property
    def registry(self) -> Registry:
        return Registry(self.target, self.login(self.destination.registry), plain=self.plain)

    @property
    def pushed(self) -> Reference:
        """The image by its digest, after the push."""
        assert self.stored is not None
        return replace(self.destination, tag="", digest=self.stored.digest)

    @property
    def converted_from(self) -> str:
        """The media type that the image had; empty if it had Docker's, or none."""
        image = self.image
        if image is None or self.is_there:
            return ""
        kind = image.index_type if image.source == "registry" else ""
        kind = kind or image.manifest_type
        return kind if kind != DOCKER_MANIFEST else ""

    @property
    def pushed_layers(self) -> list[tuple[str, int, How]]:
        """Digest, packed size and fate of each layer."""
        assert self.manifest is not None
        assert self.config is not None
        known = self.layers.by_name
        plain = [digest.partition(":")[2][:12] for digest in self.config.diff_ids]
        return [
            (layer.digest, layer.size, known.get(layer.digest) or known.get(name, How.THERE))
            for layer, name in zip(self.manifest.layers, plain, strict=False)
        ]


def derived_tag(image: Image) -> str:
    """Return a tag that the same image always has, and another image never."""
    return image.config_digest.partition(":")[2][:12]


def tag_hint(image: Image) -> str:
    return f"Use --tag {derived_tag(image)}, made from this image, or another; or --mutable"


def is_for_skopeo(push: Push) -> bool:
    """Tell which program copies the image: skopeo, or docker, which is faster for an engine's.

    docker is for an engine that pushes Docker's media types and reaches the registry by itself.
    """
    if not programs.has_skopeo():
        return False
    if not _is_of_engine(push):
        return True
    target = push.destination
    if push.insecure and not target.is_local:
        return True
    is_elsewhere = not target.is_local and target.registry != UNKNOWN_REGISTRY
    if is_elsewhere and any(os.environ.get(name) for name in _OWN_AUTHORITIES):
        return True
    return not _engine_fits(target, is_elsewhere=is_elsewhere)


def _engine_fits(target: Reference, *, is_elsewhere: bool) -> bool:
    try:
        version = json.loads(docker.run("version", "--format", "{{json .Server}}"))
        info = json.loads(docker.run("info", "--format", "{{json .}}"))
        is_docker = any(part["Name"] == "Engine" for part in version["Components"])
        if not is_docker or _SNAPSHOTTER in json.dumps(info["DriverStatus"]):
            return False
        if is_elsewhere:
            needs_proxy = bool(getproxies_environment().get("https"))
            return not needs_proxy or bool(info["HttpsProxy"])
        # The loopback of another host, a virtual machine or rootless docker is not this machine's.
        is_rootless = "rootless" in json.dumps(info["SecurityOptions"])
        return info["Name"] == socket.gethostname() and not is_rootless and "[" not in str(target)
    except (MachineError, ValueError, KeyError, TypeError):
        return False


# ── by skopeo ──


def with_skopeo(push: Push) -> list[Step]:
    saved = push.folder / "image.tar"
    steps = []
    if _is_of_engine(push):
        why = "unless the tag has this image already"
        words = [docker.client(), "save", "--output", str(saved), push.source]
        steps.append(Step(shlex.join(words), lambda: save(push), why))

    def copy() -> None:
        environment = {}
        if os.environ.get("AWS_CA_BUNDLE") and not os.environ.get("SSL_CERT_FILE"):
            environment["SSL_CERT_FILE"] = os.environ["AWS_CA_BUNDLE"]
        _run(push, _skopeo_words(push), environment, noise=programs.SKOPEO_NOISE)

    steps.append(Step(shlex.join(_skopeo_words(push)), copy, DOCKER_MANIFEST))
    return steps


def _skopeo_words(push: Push) -> list[str]:
    source = push.source
    source_tls = True
    if _is_of_engine(push):
        source = f"docker-archive:{push.folder / 'image.tar'}"
    elif source.startswith(REMOTE):
        parsed = registry_images.parse(source.removeprefix(REMOTE))
        source_tls = not (parsed.is_local or push.plain)
        if not parsed.digest:
            source = REMOTE + str(replace(parsed, tag=parsed.target))
    elif (path := archive_path(source)) is not None:
        source = f"{_transport(push, path)}:{_without_colon(push, path)}"
    return programs.skopeo_copy(
        source,
        push.target,
        folder=push.folder,
        platform=push.platform,
        source_tls=source_tls,
        tls=not (push.destination.is_local or push.plain),
    )


def _transport(push: Push, path: Path) -> str:
    if path.is_dir():
        return "oci"
    image = push.image or read_archive(path, layers=False, platform=push.platform)
    return "oci-archive" if image.manifest_type else "docker-archive"


def _without_colon(push: Push, path: Path) -> Path:
    """Return `path`, or a link to it if it holds the character that ends a path for skopeo."""
    if ":" not in str(path):
        return path
    link = push.folder / "source"
    if push.folder.is_dir() and not link.is_symlink():
        link.symlink_to(path.resolve())
    return link


def _is_of_engine(push: Push) -> bool:
    return not push.source.startswith(REMOTE) and archive_path(push.source) is None


def save(push: Push) -> None:
    saved = push.folder / "image.tar"
    if saved.exists():
        return
    assert push.image is not None
    size = push.image.size_bytes
    mib = f", {size >> 20} MiB" if size else ""
    push.screen.note(f"reading {push.source} from the engine{mib}")
    name = docker.saved_name(push.source, push.image.digest)
    try:
        docker.run("save", "--output", str(saved), name, timeout=docker.SLOW)
    except docker.DockerError as error:
        if "no space left" not in error.text.lower():
            raise
        failed = CopyError("docker", error.text)
        raise programs.explained(failed, push.target, "", push.folder) from error


# ── by docker ──


def with_docker(push: Push) -> list[Step]:
    client, target = docker.client(), str(push.target)
    steps = []
    path = archive_path(push.source)
    push.local = push.source
    if push.source.startswith(REMOTE):
        push.local = push.source.removeprefix(REMOTE)
        pull = [client, "pull", "--platform", push.platform, push.local]
        steps.append(Step(shlex.join(pull), lambda: _pull(push, pull)))
    elif path is not None:
        if path.is_dir():
            raise RequestError(
                f"{path} is an OCI layout, which docker can't push", hint="Install skopeo"
            )
        load = [client, "load", "--input", str(path)]
        steps.append(Step(shlex.join(load), lambda: _load(push, load)))
        push.local = "LOADED_IMAGE"

    def send() -> None:
        words = [client, "push", str(push.target)]
        _run(push, words, _docker_login(push), noise=programs.DOCKER_NOISE)

    return [
        *steps,
        Step(
            shlex.join([client, "tag", push.local, target]),
            lambda: _tag(push),
            "unless it is called so",
        ),
        Step(shlex.join([client, "push", target]), send),
        Step(shlex.join([client, "rmi", target]), push.undo.close, "if the tag was not there"),
    ]


def _tag(push: Push) -> None:
    """Give the image the target's name. What the engine had under that name comes back later."""
    target = str(push.target)
    if push.local == target:
        return
    before = docker.inspect("image", target)
    if before is None:
        push.undo.callback(_untag, push, target)
    else:
        push.undo.callback(_quietly, "tag", str(before["Id"]), target)
    docker.run("tag", push.local, target)


def _docker_login(push: Push) -> dict[str, str]:
    return {"DOCKER_CONFIG": str(push.folder)}


def _pull(push: Push, words: Sequence[str]) -> None:
    if docker.inspect("image", push.local) is None:
        push.undo.callback(_quietly, "rmi", push.local)
    _run(push, words, _docker_login(push))


def _load(push: Push, words: Sequence[str]) -> None:
    said: list[str] = []
    _run(push, words, {}, line=said.append)
    for line in said:
        if line.startswith("Loaded image"):
            push.local = line.partition(": ")[2]
            push.screen.note(f"the engine has {push.local} now")


def _untag(push: Push, target: str) -> None:
    """Remove the name, unless it is the only one of an image of the engine, which would go too."""
    with suppress(ByocError):
        found = docker.inspect("image", target) or {}
        if _is_of_engine(push) and found.get("RepoTags") == [target]:
            push.screen.note(f"the engine keeps the name {target}: the image has no other")
            return
        docker.run("rmi", target)


def _quietly(*words: str) -> None:
    with suppress(ByocError):
        docker.run(*words)


def _run(
    push: Push,
    words: Sequence[str],
    environment: dict[str, str],
    *,
    line: Callable[[str], None] | None = None,
    noise: int | None = None,
) -> None:
    """Run a program, on a terminal with its own progress unless its lines are wanted."""

    def copy() -> None:
        programs.run(
            words,
            line or push.layers.read,
            environment=environment,
            shown=push.screen.is_terminal and line is None,
            noise=noise,
        )

    assert push.image is not None
    try:
        attempts = programs.SKOPEO_ATTEMPTS if push.by_skopeo else programs.DOCKER_ATTEMPTS
        programs.repeated(copy, push.screen.note, attempts)
    except CopyError as error:
        hint = tag_hint(push.image)
        raise programs.explained(error, push.target, hint, push.folder) from error
