"""An image in a registry: its documents, and its layers as they stream by."""

from __future__ import annotations

from dataclasses import replace

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.images.errors import HostileError
from sagemaker_byoc.images.model import Image
from sagemaker_byoc.images.registry import Registry
from sagemaker_byoc.images.sources import archive, documents
from sagemaker_byoc.images.sources.documents import Index, Manifest
from sagemaker_byoc.images.sources.layers import Layer, merge, read_layer


def read(registry: Registry, *, layers: bool = True) -> Image:
    """Raises RequestError where the registry has no such image."""
    name = str(registry.reference)
    stored = registry.manifest()
    if stored is None:
        raise RequestError(f"there is no image {name}", hint="Check its name, tag and login")
    digest = stored.digest
    manifest = documents.parse_manifest(stored.data, name, stored.media_type)
    index: Index | None = None
    if isinstance(manifest, Index):
        index, best = manifest, manifest.best()
        found = registry.manifest(best.digest)
        if found is None:
            raise HostileError(f"the index {name} names what is not there", hint="Push it again")
        manifest = documents.parse_manifest(found.data, best.digest, found.media_type)
    if not isinstance(manifest, Manifest):
        raise HostileError(f"{name} is an index of indexes", hint="Push one image")
    config = registry.small_blob(manifest.config.digest)
    image = replace(archive.describe(manifest, index, config, name), digest=digest)
    if not layers or any("zstd" in layer.media_type for layer in manifest.layers):
        return image
    read_: list[Layer] = []
    for layer in manifest.layers:
        with registry.blob(layer.digest) as content:
            read_.append(read_layer(content))
    size = sum(file.size for layer in read_ for file in layer)
    return replace(image, files=merge(read_), size_bytes=size)
