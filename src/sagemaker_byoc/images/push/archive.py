"""An image in a file or folder: found by name in it, and read where it lies."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import IO

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.images.errors import HostileError, ImageError
from sagemaker_byoc.images.model import OCI_INDEX
from sagemaker_byoc.images.push.content import (
    Layer,
    Loaded,
    check_manifest,
    chosen_manifest,
    name_in,
    zstd_error,
)
from sagemaker_byoc.images.push.slices import GZIP, ZSTD, Reader, Slice, spooled
from sagemaker_byoc.images.sources import documents
from sagemaker_byoc.images.sources.archive import ENTRIES_LIMIT
from sagemaker_byoc.images.sources.documents import DOCUMENT_LIMIT, Descriptor
from sagemaker_byoc.images.sources.layers import LAYER_LIMIT
from sagemaker_byoc.images.tar import Inflated, entries

_HINT = "Make it with `docker save IMAGE -o FILE` or `skopeo copy … oci:DIR`"


class Archive:
    """What `docker save` writes, old and new, or an OCI layout."""

    def __init__(self, name: str, parts: Mapping[str, Slice], links: Mapping[str, str]) -> None:
        self.name = name
        self._parts = parts
        self._links = links

    @property
    def image_name(self) -> str:
        """As the engine called it that wrote it; empty where nobody says."""
        return name_in(self._document("manifest.json")) if self._is_saved else ""

    def load(self, platform: str) -> Loaded:
        if self._is_saved:
            return self._saved()
        if "index.json" in self._parts:
            return self._layout(platform)
        raise RequestError(
            f"{self.name} is no image archive: no manifest.json, no index.json", hint=_HINT
        )

    @property
    def _is_saved(self) -> bool:
        return "manifest.json" in self._parts

    def _saved(self) -> Loaded:
        text = b'{"images":' + self._document("manifest.json") + b"}"
        images = documents.parse(text, "manifest.json")["images"]
        if not isinstance(images, list) or len(images) != 1:
            count = len(images) if isinstance(images, list) else 0
            raise ImageError(
                f"{self.name} holds {count} images", hint="Save the one: docker save IMAGE -o FILE"
            )
        first = images[0]
        config = first.get("Config") if isinstance(first, dict) else None
        paths = first.get("Layers") if isinstance(first, dict) else None
        if not isinstance(config, str) or not isinstance(paths, list):
            raise HostileError(f"{self.name}: manifest.json names no image", hint=_HINT)
        layers = tuple(self._layer(str(path)) for path in paths)
        return Loaded(config=self._document(config), layers=layers)

    def _layout(self, platform: str) -> Loaded:
        top = documents.parse_manifest(self._document("index.json"), "index.json", OCI_INDEX)
        manifest = chosen_manifest(top, self._blob, platform, self.name)
        check_manifest(manifest, self.name)
        layers = tuple(self._layer(_path(layer), layer.digest) for layer in manifest.layers)
        return Loaded(
            config=self._blob(manifest.config), layers=layers, manifest_type=manifest.media_type
        )

    def _layer(self, path: str, digest: str = "") -> Layer:
        """Packed as it lies there, or to be packed: an engine's archives have both."""
        part = self._part(path)
        head = part.read(0, 4)
        if head == ZSTD:
            raise zstd_error(self.name)

        def lies_there() -> AbstractContextManager[Slice]:
            return nullcontext(part)

        if head[:2] != GZIP:
            return Layer(size=part.size, open=lies_there)
        return Layer(size=part.size, open=lies_there, digest=digest or _digest_in(path, part))

    def _part(self, path: str) -> Slice:
        target = self._links.get(path)
        if target is not None:
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        found = self._parts.get(path.lstrip("/"))
        if found is None:
            raise HostileError(f"{self.name} lacks {path}, which it names", hint=_HINT)
        return found

    def _document(self, path: str) -> bytes:
        return self._part(path).whole(DOCUMENT_LIMIT, path)

    def _blob(self, descriptor: Descriptor) -> bytes:
        return self._document(_path(descriptor))


def _path(descriptor: Descriptor) -> str:
    return f"blobs/{descriptor.digest.replace(':', '/', 1)}"


def _digest_in(path: str, part: Slice) -> str:
    """A packed layer's, by its name in the archive or else by its bytes."""
    folder, name = posixpath.split(path)
    if folder == "blobs/sha256" and len(name) == 64:
        return f"sha256:{name}"
    return part.digest


@contextmanager
def archive_at(path: Path) -> Iterator[Archive]:
    """A tar, packed with gzip or not, or the folder of an OCI layout."""
    with ExitStack() as stack:
        if path.is_dir():
            yield Archive(str(path), _folder(path, stack), {})
            return
        try:
            file = stack.enter_context(path.open("rb"))
        except OSError as error:
            raise RequestError(f"{path} can't be read: {error.strerror}", hint=_HINT) from error
        whole = Slice(file, 0, os.fstat(file.fileno()).st_size)
        if whole.read(0, 2) == GZIP:
            whole = stack.enter_context(spooled(Inflated(Reader(whole), 2 * LAYER_LIMIT)))
        yield tar_archive(str(path), whole)


def tar_archive(name: str, whole: Slice) -> Archive:
    """Raises HostileError where this is no tar."""
    parts: dict[str, Slice] = {}
    links: dict[str, str] = {}
    reader = Reader(whole)
    for count, (entry, _) in enumerate(entries(reader)):
        if count > ENTRIES_LIMIT:
            raise HostileError(f"an image archive of over {ENTRIES_LIMIT} entries", hint=_HINT)
        if entry.kind == "link":
            links[entry.name] = entry.link
        elif entry.kind == "hardlink":
            links[entry.name] = f"/{entry.link}"
        elif entry.kind == "file":
            if reader.position + entry.size > whole.size:
                raise HostileError(f"{name} ends in the middle of {entry.name}", hint=_HINT)
            parts[entry.name] = Slice(whole.file, whole.start + reader.position, entry.size)
    return Archive(name, parts, links)


def _folder(root: Path, stack: ExitStack) -> dict[str, Slice]:
    if not (root / "index.json").is_file():
        raise RequestError(f"the folder {root} is no OCI layout: no index.json", hint=_HINT)
    parts: dict[str, Slice] = {}
    for path in sorted([root / "index.json", *root.glob("blobs/*/*")]):
        if path.is_symlink() or not path.is_file():
            continue
        file: IO[bytes] = stack.enter_context(path.open("rb"))
        parts[path.relative_to(root).as_posix()] = Slice(file, 0, path.stat().st_size)
        if len(parts) > 500:
            raise HostileError(f"the layout {root} holds over 500 blobs", hint="Copy out one image")
    return parts
