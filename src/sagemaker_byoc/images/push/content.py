"""An image that is to be pushed: its configuration, and its layers as they are held."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from sagemaker_byoc.contract.errors import ByocError
from sagemaker_byoc.host.image_reference import Reference
from sagemaker_byoc.host.stored_image import OCI_CONFIG
from sagemaker_byoc.images.errors import HostileError, ImageError
from sagemaker_byoc.images.model import DOCKER_CONFIG
from sagemaker_byoc.images.push.slices import Slice
from sagemaker_byoc.images.sources import documents
from sagemaker_byoc.images.sources.documents import Descriptor, Index, Manifest

_ZSTD_HINT = (
    "Build it with gzip layers (compression=gzip,force-compression=true), or: skopeo copy"
    " --dest-decompress SOURCE dir:PLAIN && skopeo copy dir:PLAIN oci:PACKED, and push oci:PACKED"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """`digest` is that of the packed layer, empty for one that is held unpacked; `open` gives its
    bytes, for as long as the context lasts."""

    size: int
    open: Callable[[], AbstractContextManager[Slice]]
    digest: str = ""
    diff_id: str = ""
    origin: Reference | None = None
    """Where in a registry it lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    config: bytes
    layers: tuple[Layer, ...]
    manifest_type: str = ""
    """Of the manifest that it came with; empty where an engine or its archive had none."""

    @property
    def config_digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.config).hexdigest()


@dataclass(slots=True, kw_only=True)
class Content:
    """`load` may cost as much as the image is large; what is known before spares it."""

    name: str
    known_config: str = ""
    """The configuration's digest, where it is known without loading."""
    load_: Callable[[], Loaded]
    is_cheap: bool = True
    """To load: its documents are read and no layers."""
    _loaded: Loaded | None = None

    def load(self) -> Loaded:
        if self._loaded is None:
            self._loaded = self.load_()
        return self._loaded

    def check(self, platform: str) -> None:
        """As far as it costs little. Raises ByocError for what SageMaker would refuse."""
        if self.is_cheap:
            with_diff_ids(self.load(), platform, self.name)

    @property
    def config_digest(self) -> str:
        return self.known_config or self.load().config_digest


def with_diff_ids(loaded: Loaded, platform: str, name: str) -> Loaded:
    """Each layer with the digest that the configuration gives it unpacked.

    Raises ByocError for another platform, HostileError where the documents contradict each other.
    """
    document = documents.parse(loaded.config, f"the configuration of {name}")
    check_platform(f"{document.get('os')}/{document.get('architecture')}", platform, name)
    rootfs = document.get("rootfs")
    found = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    diff_ids = [str(entry) for entry in found] if isinstance(found, list) else []
    if len(diff_ids) != len(loaded.layers):
        raise HostileError(
            f"{name} has {len(loaded.layers)} layers and its configuration {len(diff_ids)}",
            hint="Build it anew",
        )
    layers = tuple(
        replace(layer, diff_id=diff_id)
        for layer, diff_id in zip(loaded.layers, diff_ids, strict=True)
    )
    return replace(loaded, layers=layers)


def check_platform(found: str, wanted: str, name: str) -> None:
    if found != wanted:
        raise ImageError(
            f"{name} is for {found}; SageMaker's instances want {wanted}",
            hint=f"Build it with --platform {wanted}"
            + (", or push with --platform linux/arm64 for Graviton" if "arm" in found else ""),
        )


def chosen_manifest(
    top: Manifest | Index, read: Callable[[Descriptor], bytes], platform: str, name: str
) -> Manifest:
    """Through indexes, past attestations, to the image of the platform."""
    for _ in range(3):
        if isinstance(top, Manifest):
            return top
        best = _of_platform(top, platform, name)
        top = documents.parse_manifest(read(best), best.digest, best.media_type)
    raise HostileError(f"{name} is an index of indexes of indexes", hint="Push one image")


def _of_platform(index: Index, platform: str, name: str) -> Descriptor:
    images = [entry for entry in index.manifests if not entry.attestation]
    wanted = [entry for entry in images if entry.platform == platform]
    if not wanted and len(images) == 1 and not images[0].platform:
        wanted = images  # a layout of one image, whose platform its configuration tells
    if not wanted:
        offered = ", ".join(entry.platform or "one that says none" for entry in images)
        raise ImageError(
            f"{name} offers {offered or 'no image'}; SageMaker's instances want {platform}",
            hint=f"Build it with --platform {platform}",
        )
    return wanted[0]


def check_manifest(manifest: Manifest, name: str) -> None:
    """Raises ByocError for what is no image, or has layers that no gzip reader reads."""
    if manifest.config.media_type not in {DOCKER_CONFIG, OCI_CONFIG, ""}:
        raise ImageError(
            f"{name} is no image: its configuration is {manifest.config.media_type}",
            hint="Name an image",
        )
    for layer in manifest.layers:
        kind = layer.media_type
        if "zstd" in kind:
            raise zstd_error(name)
        if "foreign" in kind or "nondistributable" in kind:
            raise ImageError(
                f"{name} has a layer that may not be distributed ({kind})",
                hint="Build it from another base",
            )
        if kind and "tar" not in kind:
            raise ImageError(f"{name} has a layer of the type {kind}", hint="Name an image")


def zstd_error(name: str) -> ByocError:
    return ImageError(
        f"{name} has layers packed with zstd, which Docker's media types don't have",
        hint=_ZSTD_HINT,
    )


def name_in(document: bytes) -> str:
    """The first name that a saved archive's manifest.json gives its image; empty for none."""
    try:
        return str(json.loads(document)[0]["RepoTags"][0])
    except (ValueError, LookupError, TypeError):
        return ""
