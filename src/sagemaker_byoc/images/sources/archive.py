"""An image in a file: what `docker save` writes (old and new layout), or an OCI layout.

A tar is read once, front to back, so that it may as well be a pipe: the names of the layers are
known only at its end, so every entry is kept as what it turns out to be, a document or a layer.
"""

from __future__ import annotations

import hashlib
import io
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.images.errors import HostileError
from sagemaker_byoc.images.model import OCI_INDEX, Image
from sagemaker_byoc.images.sources import documents
from sagemaker_byoc.images.sources.documents import Descriptor, Index, Manifest
from sagemaker_byoc.images.sources.layers import LAYER_LIMIT, Layer, merge, read_layer
from sagemaker_byoc.images.tar import BLOCK, Inflated, Source, entries

_ZSTD = b"\x28\xb5\x2f\xfd"
_HINT = "Make it with `docker save IMAGE -o FILE` or `skopeo copy … oci:DIR`"
ENTRIES_LIMIT = 10_000
"""Entries of an image archive: layers and documents, not files."""


@dataclass(slots=True)
class Contents:
    """What an archive holds, by path."""

    documents: dict[str, bytes] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def document(self, path: str) -> bytes:
        data = self.documents.get(path)
        if data is None:
            raise HostileError(f"the archive lacks {path}, which it names", hint=_HINT)
        return data

    def layer(self, path: str) -> Layer:
        target = self.links.get(path)
        if target is not None:  # docker save writes a layer that comes twice as a link
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        found = self.layers.get(path)
        if found is None:
            raise HostileError(f"the archive lacks the layer {path}, which it names", hint=_HINT)
        return found


def read_archive(path: Path) -> Image:
    """A file, packed with gzip or not, or the folder of an OCI layout."""
    if path.is_dir():
        return _image(_contents(_folder(path)), str(path))
    try:
        with path.open("rb") as file:
            return read_stream(file, str(path))
    except OSError as error:
        raise RequestError(f"{path} can't be read: {error.strerror}", hint=_HINT) from error


def read_stream(stream: IO[bytes], reference: str) -> Image:
    """Raises HostileError where `stream` is no image archive."""
    return _image(_contents(_tar(Inflated(stream, 2 * LAYER_LIMIT))), reference)


def _tar(source: Source) -> Iterator[tuple[str, Source | str]]:
    """Path and content; the target of a link in place of its content."""
    for entry, body in entries(source):
        if entry.kind in {"link", "hardlink"}:
            yield entry.name, entry.link if entry.kind == "link" else f"/{entry.link}"
        elif entry.kind == "file":
            yield entry.name, body


def _folder(root: Path) -> Iterator[tuple[str, Source | str]]:
    if not (root / "index.json").is_file():
        raise RequestError(f"the folder {root} is no OCI layout: no index.json", hint=_HINT)
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                yield path.relative_to(root).as_posix(), file


def _contents(pairs: Iterator[tuple[str, Source | str]]) -> Contents:
    contents = Contents()
    for count, (path, content) in enumerate(pairs):
        if count > ENTRIES_LIMIT:
            raise HostileError(f"an image archive of over {ENTRIES_LIMIT} entries", hint=_HINT)
        if isinstance(content, str):
            contents.links[path] = content.lstrip("/") if content.startswith("/") else content
            continue
        head = content.read(BLOCK)
        rest = _Joined(head, content)
        if head[:2] == b"\x1f\x8b" or head[257:262] == b"ustar" or _is_empty_tar(head):
            contents.layers[path] = read_layer(rest)
        elif head[:4] != _ZSTD:
            contents.documents[path] = _bounded(rest)
    return contents


def _is_empty_tar(head: bytes) -> bool:
    return len(head) == BLOCK and not head.strip(b"\0")


def _bounded(source: Source) -> bytes:
    data = io.BytesIO()
    while part := source.read(2**16):
        data.write(part)
        if data.tell() > documents.DOCUMENT_LIMIT:
            raise HostileError("the archive holds a large file that is no layer", hint=_HINT)
    return data.getvalue()


class _Joined:
    """Bytes that were read ahead, then the rest."""

    def __init__(self, head: bytes, rest: Source) -> None:
        self._head, self._rest = head, rest

    def read(self, size: int, /) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._rest.read(size)


def _image(contents: Contents, reference: str) -> Image:
    if "index.json" in contents.documents and _is_layout(contents):
        return _oci_image(contents, reference)
    if "manifest.json" in contents.documents:
        return _saved_image(contents, reference)
    raise RequestError(
        f"{reference} is no image archive: no manifest.json, no index.json", hint=_HINT
    )


def _is_layout(contents: Contents) -> bool:
    """Newer engines' `docker save` writes both; a layout whose blobs are packed is one to push."""
    return "manifest.json" not in contents.documents


def _saved_image(contents: Contents, reference: str) -> Image:
    try:
        first = documents.parse(
            b'{"images":' + contents.document("manifest.json") + b"}", "manifest.json"
        )["images"]
        entry = first[0] if isinstance(first, list) else None
        assert isinstance(entry, dict)
        config_path, layer_paths = entry["Config"], entry["Layers"]
        assert isinstance(config_path, str)
        assert isinstance(layer_paths, list)
    except (AssertionError, IndexError, KeyError) as error:
        raise HostileError("the archive's manifest.json names no image", hint=_HINT) from error
    config_data = contents.document(config_path)
    layers = [contents.layer(str(path)) for path in layer_paths]
    return Image(
        reference=reference,
        source="archive",
        config=documents.parse_config(config_data, config_path),
        digest="sha256:" + hashlib.sha256(config_data).hexdigest(),
        size_bytes=sum(file.size for layer in layers for file in layer),
        files=merge(layers),
    )


def _blob(descriptor: Descriptor) -> str:
    algorithm, _, value = descriptor.digest.partition(":")
    return f"blobs/{algorithm}/{value}"


def _oci_image(contents: Contents, reference: str) -> Image:
    """Through any index to the manifest that SageMaker would want."""
    top = documents.parse_manifest(contents.document("index.json"), "index.json", OCI_INDEX)
    assert isinstance(top, Index)
    # The layout's own index.json is a list of what it holds, not an index that would be pushed.
    best = top.best()
    found = documents.parse_manifest(contents.document(_blob(best)), best.digest, best.media_type)
    several = top if len(top.manifests) > 1 else None
    if isinstance(found, Index):
        several, best = found, found.best()
        found = documents.parse_manifest(
            contents.document(_blob(best)), best.digest, best.media_type
        )
    if not isinstance(found, Manifest):
        raise HostileError("an index of indexes of indexes", hint=_HINT)
    layers = [contents.layers.get(_blob(layer)) for layer in found.layers]
    known = [layer for layer in layers if layer is not None]
    image = describe(found, several, contents.document(_blob(found.config)), reference)
    return replace(
        image,
        source="archive",
        digest=best.digest,
        size_bytes=sum(file.size for layer in known for file in layer),
        files=merge(known) if len(known) == len(layers) else None,
    )


def describe(manifest: Manifest, index: Index | None, config: bytes, reference: str) -> Image:
    """What the documents say of an image that is stored as it would be pulled."""
    entries_ = index.manifests if index is not None else ()
    return Image(
        reference=reference,
        source="registry",
        config=documents.parse_config(config, manifest.config.digest),
        manifest_type=manifest.media_type,
        index_type=index.media_type if index is not None else "",
        platforms=tuple(entry.platform for entry in entries_ if not entry.attestation),
        attestations=sum(entry.attestation for entry in entries_),
        layer_types=tuple(layer.media_type for layer in manifest.layers),
        compressed_bytes=sum(layer.size for layer in manifest.layers),
    )
