"""One image as the rules see it, wherever it was read from, and its JSON documents.

What manifest, index and configuration hold may be hostile.

ImageError              an image that cannot be built, read or pushed as it is
├── RegistryError       a registry refused, or its answer makes no sense
│   └── TrustError      the registry cannot prove its identity
└── HostileError        an archive that must not be read any further
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sagemaker_byoc.contract.errors import ByocError
from sagemaker_byoc.contract.files import Json, as_list, as_object, as_string
from sagemaker_byoc.host import registry_images

DOCKER_MANIFEST = registry_images.DOCKER_MANIFEST.value
DOCKER_CONFIG = registry_images.DOCKER_CONFIG
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_MANIFEST = registry_images.OCI_MANIFEST
OCI_INDEX = registry_images.OCI_INDEX
AMD64 = "linux/amd64"
"""The platform of SageMaker's instances, except Graviton's."""
INDEXES = registry_images.INDEXES
MANIFESTS = registry_images.MANIFESTS

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Docker's, for an image that sets none."""
_LINKS = 40
"""Symbolic links in one path: MAXSYMLINKS of Linux, include/linux/namei.h."""
_PATH_LIMIT = 4096
"""PATH_MAX of Linux, include/uapi/linux/limits.h."""

ENOENT = "no such file or directory"
ENOTDIR = "not a directory"
ELOOP = "too many levels of symbolic links"
EACCES = "permission denied"


class ImageError(ByocError):
    """An image that cannot be built, read or pushed as it is."""


class RegistryError(ImageError):
    """`status` is the HTTP status of the answer, 0 if there was none."""

    def __init__(self, what: str, *, hint: str, status: int = 0) -> None:
        self.status = status
        super().__init__(what, hint=hint)


class TrustError(RegistryError):
    """Never retried, and never circumvented."""


class HostileError(ImageError):
    """Larger, longer or deeper than any image has to be, or not what it claims to be."""


@dataclass(frozen=True, slots=True)
class Elf:
    """What the kernel reads of an ELF file before it runs it."""

    machine: int
    bits: int
    damage: str = ""
    """Why the kernel can't load it, or the file ends too early; empty if it is whole."""
    loader: str | None = ""
    """Path of the dynamic loader (PT_INTERP); empty if the program needs none, None if unknown."""


@dataclass(frozen=True, slots=True)
class Program:
    """The content of an executable file, as far as it decides how the kernel runs it."""

    start: bytes
    """The first 256 bytes; the first 4 KiB of a script."""
    elf: Elf | None = None


@dataclass(frozen=True, slots=True)
class File:
    """One entry of one layer; `path` is absolute."""

    path: str
    kind: str
    mode: int
    uid: int
    size: int
    link: str
    head: bytes | None = None
    """Its first bytes, for the few files that a rule looks into."""
    program: Program | None = None
    """For regular files with an x bit; None for the others, and if a layer has too many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the image's configuration says; empty if it says nothing."""

    os: str = ""
    architecture: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    folder: str = ""
    volumes: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    stop_signal: str = ""
    history: tuple[str, ...] = ()
    """The command that made each layer, oldest first, empty layers too."""
    diff_ids: tuple[str, ...] = ()
    """Digests of the unpacked layers; empty from an engine."""

    @property
    def platform(self) -> str:
        return f"{self.os}/{self.architecture}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What is visible in a container, and the contents of all layers that rules look into."""

    visible: Mapping[str, File]
    looked_into: tuple[tuple[int, File], ...] = ()
    """Every file with a `head` and the number of its layer, of all layers: one that a later layer
    removes is still shipped."""
    limits: tuple[str, ...] = ()
    """What was not looked into because a layer has too much of it."""

    _paths: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_paths", tuple(sorted(self.visible)))

    def find(self, path: str) -> File | None:
        """Return the file at `path`, following symbolic links; None if there is none."""
        found = self.resolve(path)
        return None if found.error else self.visible.get(found.path)

    def resolve(self, path: str, folder: str = "/", uid: int | None = None) -> Resolved:
        """Walk `path` from `folder` as Linux does, with the image as the root.

        With a `uid` other than 0, folders must let that user pass.
        """
        path = posixpath.join("/", folder, path)
        left = path.split("/")[::-1]
        at, links = "", 0
        while left:
            name = left.pop()
            if name in {"", "."}:
                continue
            if name == "..":
                at = at.rpartition("/")[0]
                continue
            if not _may_pass(self.visible.get(at), uid):
                return Resolved(at, EACCES)
            here = f"{at}/{name}"
            file = self.visible.get(here)
            if len(here) > _PATH_LIMIT or (file is None and not self.is_folder(here)):
                return Resolved(here, ENOENT)
            if file is not None and file.kind == "link":
                links += 1
                if links > _LINKS:
                    return Resolved(path, ELOOP)
                at = "" if file.link.startswith("/") else at
                left += file.link[: _PATH_LIMIT + 1].split("/")[::-1]
                continue
            if left and file is not None and file.kind != "dir":
                return Resolved(here, ENOTDIR)
            at = here
        return Resolved(at or "/")

    def is_folder(self, path: str) -> bool:
        """Tell whether `path` is a folder: listed as one, or only named by what it holds."""
        file = self.visible.get(path)
        if file is not None:
            return file.kind == "dir"
        prefix = path.rstrip("/") + "/"
        index = bisect_left(self._paths, prefix)
        return path == "/" or (index < len(self._paths) and self._paths[index].startswith(prefix))

    def below(self, folder: str) -> list[File]:
        """Everything under `folder`, by path."""
        prefix = folder.rstrip("/") + "/"
        found = []
        for path in self._paths[bisect_left(self._paths, prefix) :]:
            if not path.startswith(prefix):
                break
            found.append(self.visible[path])
        return found


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where a path leads, or where the walk ended and with which error."""

    path: str
    error: str = ""


def _may_pass(folder: File | None, uid: int | None) -> bool:
    if not uid or folder is None:
        return True
    return bool(folder.mode & (0o100 if folder.uid == uid else 0o011))


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    reference: str
    source: str
    """engine, archive or registry."""
    config: Config
    manifest_type: str = ""
    """As it is stored, or as the engine would push it; empty if it is not known yet."""
    index_type: str = ""
    """Media type of the index that the manifest was found through, if any."""
    platforms: tuple[str, ...] = ()
    """What the index offers."""
    attestations: int = 0
    layer_types: tuple[str, ...] = ()
    digest: str = ""
    config_digest: str = ""
    """Digest of the configuration; empty if an engine keeps images in containerd's store."""
    named_as: str = ""
    """The name that a saved archive gives its image."""
    compressed_bytes: int | None = None
    """None from an engine, which keeps layers unpacked."""
    size_bytes: int | None = None
    files: Files | None = None
    """None if the layers were not read."""

    @property
    def entry(self) -> tuple[str, ...]:
        return self.config.entrypoint

    @property
    def search_path(self) -> list[str]:
        """The folders of PATH; Docker sets its own PATH if the image has none."""
        value = self.config.environment.get("PATH", DEFAULT_PATH)
        return value.split(":") if value else []

    def on_path(self, name: str) -> File | None:
        """Return the program `name` on PATH, one that can be executed if there is one."""
        if self.files is None:
            return None
        others = []
        for place in self.search_path:
            found = self.files.resolve(posixpath.join(place or ".", name), self.config.folder)
            file = self.files.visible.get(found.path)
            if found.error or file is None or file.kind != "file":
                continue
            if file.mode & 0o111:
                return file
            others.append(file)
        return others[0] if others else None


# ── as JSON documents ──


DOCUMENT_LIMIT = 8 * 2**20
"""Bytes; ECR takes manifests of up to 4 MiB."""
_ATTESTATION = "vnd.docker.reference.type"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One reference from a document to a blob."""

    media_type: str
    digest: str
    size: int
    platform: str = ""
    attestation: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Index:
    media_type: str
    manifests: tuple[Descriptor, ...]

    def best(self, platform: str = AMD64) -> Descriptor:
        """Return the image for `platform`, or else the first image."""
        images = [entry for entry in self.manifests if not entry.attestation]
        if not images:
            raise HostileError("the index names no image", hint="Build it again")
        fitting = [entry for entry in images if entry.platform == platform]
        return (fitting or images)[0]


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def parse_object(data: bytes, what: str) -> dict[str, Json]:
    """Return the JSON object in `data`. Raise HostileError."""
    if len(data) > DOCUMENT_LIMIT:
        raise HostileError(f"{what} is over {DOCUMENT_LIMIT >> 20} MiB", hint="Build it again")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise HostileError(f"{what} is not JSON", hint="Build it again") from error
    return as_object(found)


def parse_manifest(data: bytes, what: str, media_type: str = "") -> Manifest | Index:
    """Parse a manifest or index. `media_type`, which came with it, yields to its own."""
    document = parse_object(data, what)
    said = as_string(document.get("mediaType")) or media_type
    if said in INDEXES or (not said and "manifests" in document):
        entries = tuple(_descriptor(entry) for entry in as_list(document.get("manifests")))
        return Index(said or OCI_INDEX, entries)
    if said and said not in MANIFESTS:
        raise HostileError(
            f"{what} is of the type {said}", hint="Build it again with a current builder"
        )
    layers = tuple(_descriptor(layer) for layer in as_list(document.get("layers")))
    return Manifest(said or OCI_MANIFEST, _descriptor(document.get("config")), layers)


def parse_config(data: bytes, what: str) -> Config:
    """Parse the configuration of an image, which Docker and OCI share."""
    document = parse_object(data, what)
    config = make_config(
        as_object(document.get("config")),
        os=as_string(document.get("os")),
        architecture=as_string(document.get("architecture")),
        history=tuple(
            as_string(as_object(step).get("created_by"))
            for step in as_list(document.get("history"))
        ),
    )
    diff_ids = _words(as_object(document.get("rootfs")).get("diff_ids"))
    return replace(config, diff_ids=diff_ids)


def make_config(
    inner: Mapping[str, Json], *, os: str, architecture: str, history: tuple[str, ...]
) -> Config:
    """Return the configuration. `inner` is the part that `image inspect` spells the same."""
    pairs = (as_string(pair).partition("=") for pair in as_list(inner.get("Env")))
    return Config(
        os=os,
        architecture=architecture,
        history=history,
        entrypoint=_words(inner.get("Entrypoint")),
        command=_words(inner.get("Cmd")),
        environment={name: value for name, _, value in pairs if name},
        labels={key: as_string(value) for key, value in as_object(inner.get("Labels")).items()},
        user=as_string(inner.get("User")),
        folder=as_string(inner.get("WorkingDir")),
        volumes=tuple(as_object(inner.get("Volumes"))),
        ports=tuple(as_object(inner.get("ExposedPorts"))),
        stop_signal=as_string(inner.get("StopSignal")),
    )


def _descriptor(value: Json) -> Descriptor:
    entry = as_object(value)
    digest, size = as_string(entry.get("digest")), entry.get("size")
    if not digest or not isinstance(size, int) or size < 0:
        raise HostileError("a manifest with a reference to nothing", hint="Build the image again")
    platform = as_object(entry.get("platform"))
    names = [as_string(platform.get("os")), as_string(platform.get("architecture"))]
    return Descriptor(
        media_type=as_string(entry.get("mediaType")),
        digest=digest,
        size=size,
        platform="/".join(names) if all(names) else "",
        attestation=_ATTESTATION in as_object(entry.get("annotations")),
    )


def _words(value: Json) -> tuple[str, ...]:
    if isinstance(value, str):  # some builders write one string
        return (value,)
    return tuple(as_string(word) for word in as_list(value))
