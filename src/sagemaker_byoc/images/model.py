"""One image as the rules see it, wherever it was read from."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
INDEXES = frozenset({DOCKER_INDEX, OCI_INDEX})
MANIFESTS = frozenset({DOCKER_MANIFEST, OCI_MANIFEST})

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Docker's, for an image that sets none."""
_LINKS = 32
"""Symbolic links that one path may lead through, as Linux has it (40) and less."""


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
    """Its first bytes, of the few files that some rule wants to look into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the image's configuration says; empty where it says nothing."""

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

    @property
    def platform(self) -> str:
        return f"{self.os}/{self.architecture}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What is visible in a container, and what lies buried in its layers."""

    visible: Mapping[str, File]
    looked_into: tuple[tuple[int, File], ...] = ()
    """Every file with a `head` and the number of its layer, of all layers: one that a later layer
    removes is still shipped."""

    def find(self, path: str) -> File | None:
        """The file at `path`, through symbolic links; None where there is none."""
        for _ in range(_LINKS):
            path = self._real_folder(path)
            file = self.visible.get(path)
            if file is None or file.kind not in {"link", "hardlink"}:
                return file
            base = "/" if file.kind == "hardlink" else posixpath.dirname(path)
            path = posixpath.normpath(posixpath.join(base, file.link))
        return None

    def _real_folder(self, path: str) -> str:
        """`path` with the links among its folders followed (/bin is one in most images)."""
        for _ in range(_LINKS):
            parts = path.strip("/").split("/")
            for index in range(1, len(parts)):
                folder = "/" + "/".join(parts[:index])
                link = self.visible.get(folder)
                if link is not None and link.kind == "link":
                    target = posixpath.join(posixpath.dirname(folder), link.link)
                    path = posixpath.normpath(posixpath.join(target, *parts[index:]))
                    break
            else:
                return path
        return path

    def below(self, folder: str) -> list[File]:
        """Everything under `folder`, by path."""
        prefix = folder.rstrip("/") + "/"
        return sorted(
            (file for path, file in self.visible.items() if path.startswith(prefix)),
            key=lambda file: file.path,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    reference: str
    source: str
    """engine, archive or registry."""
    config: Config
    manifest_type: str = ""
    """As it is stored, or as the engine would push it; empty where nobody knows yet."""
    index_type: str = ""
    """Of the index that the manifest was found through, if any."""
    platforms: tuple[str, ...] = ()
    """What the index offers."""
    attestations: int = 0
    layer_types: tuple[str, ...] = ()
    digest: str = ""
    compressed_bytes: int | None = None
    """None from an engine, which keeps layers unpacked."""
    size_bytes: int | None = None
    files: Files | None = None
    """None where the layers were not read."""

    @property
    def entry(self) -> tuple[str, ...]:
        return self.config.entrypoint

    def on_path(self, name: str) -> File | None:
        """The program `name` as a container would find it."""
        if self.files is None:
            return None
        places = self.config.environment.get("PATH", DEFAULT_PATH).split(":")
        for place in places:
            start = posixpath.join("/", self.config.folder, place)
            file = self.files.find(posixpath.join(start, name))
            if file is not None and file.kind == "file":
                return file
        return None
