"""What lies in the registry after a push is read back, and held against what SageMaker takes."""

from __future__ import annotations

from dataclasses import dataclass

from sagemaker_byoc.images.errors import RegistryError
from sagemaker_byoc.images.model import DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST
from sagemaker_byoc.images.push.content import check_platform
from sagemaker_byoc.images.push.patience import Patience
from sagemaker_byoc.images.registry import Registry, Stored
from sagemaker_byoc.images.sources import documents
from sagemaker_byoc.images.sources.documents import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    digest: str
    media_type: str
    platform: str
    size_bytes: int
    """Of the packed layers and the configuration: what an instance pulls."""
    layers: tuple[tuple[str, int], ...]


def plain_docker(stored: Stored) -> Manifest | None:
    """The manifest, where all its media types are Docker's; None for what SageMaker refuses."""
    if stored.media_type != DOCKER_MANIFEST:
        return None
    found = documents.parse_manifest(stored.data, stored.digest, stored.media_type)
    if not isinstance(found, Manifest) or found.media_type != DOCKER_MANIFEST:
        return None
    kinds = {layer.media_type for layer in found.layers}
    return found if found.config.media_type == DOCKER_CONFIG and kinds <= {DOCKER_LAYER} else None


def verify(
    registry: Registry, tag: str, digest: str, platform: str, patience: Patience
) -> Verified:
    """Raises ByocError for the first thing that is not as SageMaker wants it, or not as sent."""
    stored = patience(lambda: registry.manifest(tag))
    name = f"{registry.reference.registry}/{registry.reference.repository}:{tag}"
    if stored is None:
        raise RegistryError(f"{name} is not there after the push", hint="Run it again")
    if stored.digest != digest:
        raise RegistryError(
            f"{name} is {stored.digest} and not {digest}, which was pushed",
            hint="Somebody else pushes to this tag: choose another, or make tags --immutable",
        )
    manifest = plain_docker(stored)
    if manifest is None:
        raise RegistryError(
            f"{name} came out with the media type {stored.media_type}, which SageMaker refuses",
            hint="Push to another registry; this one rewrites manifests",
        )
    config = patience(lambda: registry.small_blob(manifest.config.digest))
    found = documents.parse_config(config, name).platform
    check_platform(found, platform, name)
    for layer in manifest.layers:
        _check_layer(registry, layer.digest, layer.size, patience)
    return Verified(
        digest=digest,
        media_type=stored.media_type,
        platform=found,
        size_bytes=manifest.config.size + sum(layer.size for layer in manifest.layers),
        layers=tuple((layer.digest, layer.size) for layer in manifest.layers),
    )


def _check_layer(registry: Registry, digest: str, size: int, patience: Patience) -> None:
    found = patience(lambda: registry.blob_size(digest))
    if found not in {size, -1}:
        what = "is missing" if found is None else f"has {found} bytes, not {size}"
        raise RegistryError(f"the layer {digest} {what} after the push", hint="Run it again")
