"""A push as steps: each can be printed, and run. `byoc push --dry-run` prints the same list."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from sagemaker_byoc.contract.errors import ByocError, RequestError
from sagemaker_byoc.host import docker, image_reference, stored_image
from sagemaker_byoc.host.image_reference import Reference
from sagemaker_byoc.images.credentials import Login, lend_logins
from sagemaker_byoc.images.errors import ImageError, RegistryError
from sagemaker_byoc.images.model import DOCKER_MANIFEST, Config, Image
from sagemaker_byoc.images.push import programs
from sagemaker_byoc.images.push.programs import CopyError, How, Layers, Screen
from sagemaker_byoc.images.registry import Registry, Stored
from sagemaker_byoc.images.sources import documents, lookup
from sagemaker_byoc.images.sources.archive import ZSTD_HINT, read_archive
from sagemaker_byoc.images.sources.documents import Manifest
from sagemaker_byoc.images.sources.lookup import REMOTE, archive_path

TAG = "TAG"
"""Stands in a plan for twelve digits of the configuration's digest."""
_FOLDER = Path("PRIVATE_FOLDER")
"""Stands in a plan for the temporary folder of the push."""

FindLogin = Callable[[str], Login | None]
"""Return the login of a registry."""


@dataclass(frozen=True, slots=True)
class Step:
    """`do` is a command, or a request; `run` does it, or passes it over if it is not needed."""

    do: str
    run: Callable[[], None]
    why: str = ""


def run(steps: Iterable[Step]) -> None:
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


def source_steps(push: Push) -> list[Step]:
    """Return the steps that look at the image, before anything is done for it.

    The last raises ImageError for what SageMaker would refuse.
    """
    steps = list(_reading(push))
    last = steps.pop()

    def look() -> None:
        last.run()
        assert push.image is not None
        _check(push.image, push)
        if not push.destination.tag and push.image.config_digest:
            push.destination = replace(push.destination, tag=derived_tag(push.image))

    return [*steps, Step(last.do, look, last.why)]


def _reading(push: Push) -> Iterable[Step]:
    if push.source.startswith(REMOTE):
        parsed = image_reference.parse(push.source.removeprefix(REMOTE))
        registry = Registry(parsed, plain=push.plain)

        def read() -> None:
            registry.login = push.login(parsed.registry)
            push.image = lookup.read_remote(registry, layers=False, platform=push.platform)

        yield Step(f"GET {registry.url('manifests', parsed.target)}", lambda: None)
        yield Step(f"GET {registry.url('blobs', 'DIGEST')}", read, "the configuration")
        return
    if (path := archive_path(push.source)) is not None:

        def read_file() -> None:
            if push.image is None:
                push.image = read_archive(path, layers=False, platform=push.platform)

        yield Step(f"read {shlex.quote(str(path))}", read_file)
        return

    image_reference.parse(push.source)

    def inspect() -> None:
        push.image = lookup.describe_from_engine(push.source)

    yield Step(shlex.join([docker.client(), "image", "inspect", push.source]), inspect)


def _check(image: Image, push: Push) -> None:
    """Raise ImageError for an image that SageMaker would refuse, or that can't be pushed."""
    name = push.source
    found = image.config.platform
    if found == "/":
        raise ImageError(
            f"{name} is not an image: its configuration names no platform", hint="Name an image"
        )
    if found != push.platform and not (image.source == "engine" and not image.config_digest):
        check_platform(found, push.platform, name)
    for kind in image.layer_types:
        if "zstd" in kind:
            raise ImageError(
                f"{name} has layers packed with zstd, which Docker's media types don't have",
                hint=ZSTD_HINT,
            )
        if "foreign" in kind or "nondistributable" in kind:
            raise ImageError(
                f"{name} has a layer that may not be distributed ({kind})",
                hint="Build it from another base",
            )
        if kind and "tar" not in kind:
            raise ImageError(f"{name} has a layer of the type {kind}", hint="Name an image")


def check_platform(found: str, wanted: str, name: str) -> None:
    if found != wanted:
        raise ImageError(
            f"{name} is for {found}; SageMaker's instances want {wanted}",
            hint=f"Build it with --platform {wanted}"
            + (", or push with --platform linux/arm64 for Graviton" if "arm" in found else ""),
        )


def derived_tag(image: Image) -> str:
    """Return a tag that the same image always has, and another image never."""
    return image.config_digest.partition(":")[2][:12]


def transfer_steps(push: Push) -> list[Step]:
    """Return the steps that copy the image to the destination, and verify it there."""
    url = Registry(push.target, plain=push.plain).url("manifests", push.target.tag)
    blob = url.partition("/manifests/")[0] + "/blobs/DIGEST"
    copying = _with_skopeo(push) if programs.has_skopeo() else _with_docker(push)
    return [
        Step(f"GET {url}", lambda: _look_there(push), "is it there already?"),
        *(replace(step, run=_unless_there(push, step.run)) for step in copying),
        Step(f"GET {url}", lambda: _verify(push), "verified: digest and media types"),
        Step(f"GET {blob}", lambda: _verify_platform(push), "verified: the platform"),
    ]


def _unless_there(push: Push, run_step: Callable[[], None]) -> Callable[[], None]:
    def run_unless() -> None:
        if not push.is_there:
            run_step()

    return run_unless


# Copied by skopeo


def _with_skopeo(push: Push) -> list[Step]:
    saved = push.folder / "image.tar"
    steps = []
    if _is_of_engine(push):
        why = "unless the tag has this image already"
        words = [docker.client(), "save", "--output", str(saved), push.source]
        steps.append(Step(shlex.join(words), lambda: _save(push), why))

    def copy() -> None:
        environment = {}
        if os.environ.get("AWS_CA_BUNDLE") and not os.environ.get("SSL_CERT_FILE"):
            environment["SSL_CERT_FILE"] = os.environ["AWS_CA_BUNDLE"]
        _run(push, _skopeo_words(push), environment, watched=True)

    steps.append(Step(shlex.join(_skopeo_words(push)), copy, DOCKER_MANIFEST))
    return steps


def _skopeo_words(push: Push) -> list[str]:
    source = push.source
    source_tls = True
    if _is_of_engine(push):
        source = f"docker-archive:{push.folder / 'image.tar'}"
    elif source.startswith(REMOTE):
        parsed = image_reference.parse(source.removeprefix(REMOTE))
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


def _save(push: Push) -> None:
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


# Copied by docker


def _with_docker(push: Push) -> list[Step]:
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

    def tag() -> None:
        if push.local != str(push.target) and docker.inspect("image", str(push.target)) is None:
            push.undo.callback(_untag, str(push.target))
        if push.local != str(push.target):
            docker.run("tag", push.local, str(push.target))

    def send() -> None:
        _run(push, [client, "push", str(push.target)], _docker_login(push))

    return [
        *steps,
        Step(shlex.join([client, "tag", push.local, target]), tag, "unless it is called so"),
        Step(shlex.join([client, "push", target]), send),
        Step(shlex.join([client, "rmi", target]), push.undo.close, "if the tag was not there"),
    ]


def _docker_login(push: Push) -> dict[str, str]:
    return {"DOCKER_CONFIG": str(push.folder)}


def _pull(push: Push, words: Sequence[str]) -> None:
    if docker.inspect("image", push.local) is None:
        push.undo.callback(_untag, push.local)
    _run(push, words, _docker_login(push))


def _load(push: Push, words: Sequence[str]) -> None:
    said: list[str] = []
    _run(push, words, {}, line=said.append)
    for line in said:
        if line.startswith("Loaded image"):
            push.local = line.partition(": ")[2]
            push.screen.note(f"the engine has {push.local} now")


def _untag(name: str) -> None:
    with suppress(ByocError):
        docker.run("rmi", name)


# Around the copy


def _look_there(push: Push) -> None:
    """Raise RegistryError if the tag names another image and can't be moved."""
    image = push.image
    assert image is not None
    logins = {name: found for name in _hosts(push) if (found := push.login(name))}
    lend_logins(push.folder, logins)
    if not image.config_digest and programs.has_skopeo():
        _save(push)
        saved = read_archive(push.folder / "image.tar", layers=False, platform=push.platform)
        push.image = image = replace(saved, source="engine", manifest_type=image.manifest_type)
        _check(image, push)
    if not push.destination.tag:
        tag = derived_tag(image) or image.digest.partition(":")[2][:12]
        push.destination = replace(push.destination, tag=tag)
    push.layers.config_digest = image.config_digest
    before = push.registry.manifest()
    if before is None:
        return
    manifest = _docker_manifest(before)
    if manifest is not None and manifest.config.digest == image.config_digest:
        push.is_there = True
        return
    name = str(push.destination)
    if push.immutable:
        raise RegistryError(
            f"{name} is {before.digest} already, and the repository's tags can't be moved",
            hint=_tag_hint(image),
        )
    push.screen.note(f"{name} was {before.digest}; endpoints that run keep that one")


def _hosts(push: Push) -> list[str]:
    hosts = [push.destination.registry]
    if push.source.startswith(REMOTE):
        hosts.append(image_reference.parse(push.source.removeprefix(REMOTE)).registry)
    return hosts


def _tag_hint(image: Image) -> str:
    return f"Use --tag {derived_tag(image)}, made from this image, or another; or --mutable"


def _run(
    push: Push,
    words: Sequence[str],
    environment: dict[str, str],
    *,
    line: Callable[[str], None] | None = None,
    watched: bool = False,
) -> None:
    """Run a program, on a terminal with its own progress unless its lines are wanted."""

    def copy() -> None:
        programs.run(
            words,
            line or push.layers.read,
            environment=environment,
            shown=push.screen.is_terminal and line is None,
            watched=watched,
        )

    assert push.image is not None
    try:
        programs.repeated(copy, push.screen.note)
    except CopyError as error:
        hint = _tag_hint(push.image)
        raise programs.explained(error, push.target, hint, push.folder) from error


def _docker_manifest(stored: Stored) -> Manifest | None:
    """Return the manifest if SageMaker takes its form, None if not."""
    if stored.media_type != DOCKER_MANIFEST or _fault(stored) is not None:
        return None
    found = documents.parse_manifest(stored.data, stored.digest, stored.media_type)
    return found if isinstance(found, Manifest) else None


def _fault(stored: Stored) -> stored_image.Fault | None:
    document = documents.parse(stored.data, stored.digest)
    return stored_image.storage_fault(stored.media_type, document)


def _verify(push: Push) -> None:
    """Raise ByocError if the tag names anything but the pushed image in a form for SageMaker."""
    name = str(push.destination)
    stored = push.registry.manifest()
    if stored is None:
        raise RegistryError(f"{name} is not there after the push", hint="Run it again")
    sent = _sent_digest(push)
    if sent and stored.digest != sent:
        raise RegistryError(
            f"{name} is {stored.digest} and not {sent}, which was pushed",
            hint="Somebody else pushes to this tag: choose another, or make tags --immutable",
        )
    push.manifest = _docker_manifest(stored)
    if push.manifest is None:
        fault = _fault(stored)
        hint = "Push to another registry; this one rewrites manifests"
        if not programs.has_skopeo():
            hint = "Install skopeo and push again: docker keeps the media types of its store"
        what = fault.what if fault else "has a manifest that SageMaker refuses"
        raise RegistryError(f"{name} {what}", hint=hint)
    push.stored = stored


def _sent_digest(push: Push) -> str:
    """Return the digest that the program has pushed; empty if nothing was sent."""
    if push.is_there:
        return ""
    with suppress(OSError):
        return (push.folder / "digest").read_text().strip()
    return push.layers.digest


def _verify_platform(push: Push) -> None:
    assert push.manifest is not None
    assert push.stored is not None
    data = push.registry.small_blob(push.manifest.config.digest)
    name = str(push.destination)
    found = documents.parse_config(data, name)
    check_platform(found.platform, push.platform, name)
    push.config = found
