"""An image in a file: what `docker save` writes (old and new layout), or an OCI layout.

A tar is read once, front to back, so that it may as well be a pipe: the names of the layers are
known only at its end, so every entry is kept as what it turns out to be, a document or a layer.
"""

from __future__ import annotations

import io
import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.images import model
from sagemaker_byoc.images.layers import LAYER_LIMIT, Layer, merge, read_layer
from sagemaker_byoc.images.model import (
    AMD64,
    OCI_INDEX,
    Descriptor,
    HostileError,
    Image,
    ImageError,
    Index,
    Manifest,
    digest_of,
)
from sagemaker_byoc.images.tar import BLOCK, Inflated, Source, entries

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_HINT = "Make it with `docker save IMAGE -o FILE` or `skopeo copy … oci:DIR`"
ZSTD_HINT = (
    "Build it with gzip layers (compression=gzip,force-compression=true), or: skopeo copy"
    " --dest-decompress SOURCE dir:PLAIN && skopeo copy dir:PLAIN oci:PACKED, and push oci:PACKED"
)
ENTRIES_LIMIT = 10_000
"""Entries of an image archive: layers and documents, not files."""


@dataclass(slots=True)
class Contents:
    """What an archive holds, by path."""

    documents: dict[str, bytes] = field(default_factory=dict)
    layers: dict[str, Layer | None] = field(default_factory=dict)
    """None for one that was not read."""
    zstd: set[str] = field(default_factory=set)
    links: dict[str, str] = field(default_factory=dict)

    def document(self, path: str) -> bytes:
        data = self.documents.get(path)
        if data is None:
            raise HostileError(f"the archive lacks {path}, which it names", hint=_HINT)
        return data

    def layer(self, path: str) -> Layer | None:
        target = self.links.get(path)
        if target is not None:  # docker save writes a layer that comes twice as a link
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        if path in self.zstd:
            raise ImageError(
                "the archive has layers packed with zstd, which Docker's media types don't have",
                hint=ZSTD_HINT,
            )
        if path not in self.layers:
            raise HostileError(f"the archive lacks the layer {path}, which it names", hint=_HINT)
        return self.layers[path]


def read_archive(path: Path, *, layers: bool = True, platform: str = AMD64) -> Image:
    """Read a file, packed with gzip or not, or the folder of an OCI layout.

    Without `layers` the layers are passed over. Of several images, the one for `platform` is read.
    """
    if path.is_dir():
        return _image(_contents(_folder(path), layers=layers), str(path), platform)
    try:
        with path.open("rb") as file:
            return _image(_contents(_tar(_source(file)), layers=layers), str(path), platform)
    except OSError as error:
        raise RequestError(f"{path} can't be read: {error.strerror}", hint=_HINT) from error


def read_stream(stream: IO[bytes], reference: str) -> Image:
    """Raise HostileError if `stream` is not an image archive."""
    contents = _contents(_tar(Inflated(stream, 2 * LAYER_LIMIT)), layers=True)
    return _image(contents, reference, AMD64)


class _Seekable:
    """A file whose entries are passed over without reading them."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.read = file.read
        self._size = os.fstat(file.fileno()).st_size

    def skip(self, size: int) -> None:
        if self._file.seek(size, os.SEEK_CUR) > self._size:
            raise HostileError("the archive ends in the middle of an entry", hint=_HINT)


def _source(file: IO[bytes]) -> Source:
    is_packed = file.read(2) == _GZIP
    file.seek(0)
    return Inflated(file, 2 * LAYER_LIMIT) if is_packed else _Seekable(file)


def _tar(source: Source) -> Iterator[tuple[str, Source | str]]:
    """Yield path and content; the target of a link in place of its content."""
    for entry, body in entries(source):
        if entry.kind in {"link", "hardlink"}:
            yield entry.name, entry.link if entry.kind == "link" else f"/{entry.link}"
        elif entry.kind == "file":
            yield entry.name, body


def _folder(root: Path) -> Iterator[tuple[str, Source | str]]:
    if not (root / "index.json").is_file():
        raise RequestError(f"the folder {root} is not an OCI layout: no index.json", hint=_HINT)
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                yield path.relative_to(root).as_posix(), file


def _contents(pairs: Iterator[tuple[str, Source | str]], *, layers: bool) -> Contents:
    contents = Contents()
    for count, (path, content) in enumerate(pairs):
        if count > ENTRIES_LIMIT:
            raise HostileError(f"an image archive of over {ENTRIES_LIMIT} entries", hint=_HINT)
        if isinstance(content, str):
            contents.links[path] = content.lstrip("/") if content.startswith("/") else content
            continue
        head = content.read(BLOCK)
        rest = _Joined(head, content)
        is_empty_tar = len(head) == BLOCK and not head.strip(b"\0")
        if head[:2] == _GZIP or head[257:262] == b"ustar" or is_empty_tar:
            contents.layers[path] = read_layer(rest) if layers else None
        elif head[:4] == _ZSTD:
            contents.zstd.add(path)
        else:
            contents.documents[path] = _bounded(rest)
    return contents


def _bounded(source: Source) -> bytes:
    data = io.BytesIO()
    while part := source.read(2**16):
        data.write(part)
        if data.tell() > model.DOCUMENT_LIMIT:
            raise HostileError("the archive holds a large file that is not a layer", hint=_HINT)
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


def _image(contents: Contents, reference: str, platform: str) -> Image:
    if "manifest.json" in contents.documents:  # newer engines' `docker save` writes both
        return _saved_image(contents, reference)
    if "index.json" in contents.documents:
        return _oci_image(contents, reference, platform)
    raise RequestError(
        f"{reference} is not an image archive: no manifest.json, no index.json", hint=_HINT
    )


def _saved_image(contents: Contents, reference: str) -> Image:
    try:
        first = model.parse_object(
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
    tags = entry.get("RepoTags")
    image = Image(
        reference=reference,
        source="archive",
        config=model.parse_config(config_data, config_path),
        digest=digest_of(config_data),
        config_digest=digest_of(config_data),
        named_as=str(tags[0]) if isinstance(tags, list) and tags else "",
    )
    return _with_files(image, [contents.layer(str(path)) for path in layer_paths])


def _with_files(image: Image, layers: Sequence[Layer | None]) -> Image:
    """Return the image with the files of its layers, if all were read."""
    known = [layer for layer in layers if layer is not None]
    if len(known) < len(layers):
        return image
    size = sum(file.size for layer in known for file in layer)
    return replace(image, size_bytes=size, files=merge(known))


def _blob(descriptor: Descriptor) -> str:
    algorithm, _, value = descriptor.digest.partition(":")
    return f"blobs/{algorithm}/{value}"


def _oci_image(contents: Contents, reference: str, platform: str) -> Image:
    """Go through any index to the manifest that SageMaker would want."""

    def read(entry: Descriptor) -> Manifest | Index:
        return model.parse_manifest(contents.document(_blob(entry)), entry.digest, entry.media_type)

    top = model.parse_manifest(contents.document("index.json"), "index.json", OCI_INDEX)
    assert isinstance(top, Index)
    # The layout's own index.json is a list of what it holds, not an index that would be pushed.
    best = top.best(platform)
    found = read(best)
    several = top if len(top.manifests) > 1 else None
    if isinstance(found, Index):
        several, best = found, found.best(platform)
        found = read(best)
    if not isinstance(found, Manifest):
        raise HostileError("an index of indexes of indexes", hint=_HINT)
    image = describe(found, several, contents.document(_blob(found.config)), reference)
    image = replace(image, source="archive", digest=best.digest)
    return _with_files(image, [contents.layers.get(_blob(layer)) for layer in found.layers])


def describe(manifest: Manifest, index: Index | None, config: bytes, reference: str) -> Image:
    """Return what the documents say of an image that is stored as it would be pulled."""
    entries_ = index.manifests if index is not None else ()
    return Image(
        reference=reference,
        source="registry",
        config=model.parse_config(config, manifest.config.digest),
        config_digest=digest_of(config),
        manifest_type=manifest.media_type,
        index_type=index.media_type if index is not None else "",
        platforms=tuple(entry.platform for entry in entries_ if not entry.attestation),
        attestations=sum(entry.attestation for entry in entries_),
        layer_types=tuple(layer.media_type for layer in manifest.layers),
        compressed_bytes=sum(layer.size for layer in manifest.layers),
    )
