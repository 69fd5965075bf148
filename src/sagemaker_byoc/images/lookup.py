"""An image by the name that a user gives: an archive's path, an engine's image, a registry's."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.host import docker, registry_images
from sagemaker_byoc.images import archive, model
from sagemaker_byoc.images.layers import Layer, merge, read_layer
from sagemaker_byoc.images.model import AMD64, DOCKER_MANIFEST, HostileError, Image, Index, Manifest
from sagemaker_byoc.images.registry import Registry, docker_login

REMOTE = "docker://"
_ARCHIVES = ("docker-archive:", "oci-archive:", "oci:")
_IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}")


def read_image(name: str, *, layers: bool = True) -> Image:
    """Read `name` as skopeo has it (docker://…, oci:DIR, docker-archive:FILE), a path, or a name.

    A plain name is the engine's. Raise ImageError.
    """
    if name.startswith(REMOTE):
        parsed = registry_images.parse(name.removeprefix(REMOTE))
        return read_remote(Registry(parsed, docker_login(parsed.registry)), layers=layers)
    path = archive_path(name)
    if path is not None:
        return archive.read_archive(path, layers=layers)
    registry_images.parse(name)
    return _read_from_engine(name, layers=layers)


def archive_path(name: str) -> Path | None:
    """Return the path if `name` is one."""
    for prefix in _ARCHIVES:
        if name.startswith(prefix):
            return Path(name.removeprefix(prefix))
    path = Path(name)
    return path if path.exists() and ("/" in name or path.is_file()) else None


# ── an engine's ──


def describe_from_engine(reference: str) -> Image:
    """Return what `image inspect` says. Raise RequestError if the engine lacks the image."""
    found = docker.inspect("image", reference)
    if found is None:
        raise RequestError(
            f"the engine has no image {reference!r}",
            hint="Name one of `docker images`, an archive's path, or docker://HOST/NAME:TAG",
        )
    inner, size, identity = found.get("Config"), found.get("Size"), str(found.get("Id", ""))
    # With containerd's store the id is the manifest's digest, otherwise the configuration's.
    is_config = found.get("Descriptor") is None and _IMAGE_ID.fullmatch(identity)
    return Image(
        reference=reference,
        source="engine",
        config=model.make_config(
            inner if isinstance(inner, dict) else {},
            os=str(found.get("Os", "")),
            architecture=str(found.get("Architecture", "")),
            history=(),
        ),
        manifest_type=_pushed_as(found),
        digest=identity,
        config_digest=identity if is_config else "",
        size_bytes=size if isinstance(size, int) else None,
    )


def _read_from_engine(reference: str, *, layers: bool) -> Image:
    """With `layers` everything is read once through a pipe; nothing is written to a disk here."""
    image = describe_from_engine(reference)
    lines = docker.run("history", "--no-trunc", "--format", "{{.CreatedBy}}", reference)
    history = tuple(reversed(lines.splitlines()))
    image = replace(image, config=replace(image.config, history=history))
    if not layers:
        return image
    with docker.saved(reference, image.digest) as stream:
        return replace(image, files=archive.read_stream(stream, reference).files)


def _pushed_as(found: dict[str, Json]) -> str:
    """Return the media type under which the engine would push the image.

    An engine that keeps images in containerd's store says what it keeps, and pushes just that; one
    without pushes Docker's own type.
    """
    descriptor = found.get("Descriptor")
    kept = descriptor.get("mediaType") if isinstance(descriptor, dict) else None
    return str(kept) if kept else DOCKER_MANIFEST


# ── a registry's ──


def read_remote(registry: Registry, *, layers: bool = True, platform: str = AMD64) -> Image:
    """Read documents, and with `layers` the layers as they stream by.

    Raise RequestError if the registry has no such image.
    """
    name = str(registry.reference)
    stored = registry.manifest()
    if stored is None:
        raise RequestError(f"there is no image {name}", hint="Check its name, tag and login")
    digest = stored.digest
    manifest = model.parse_manifest(stored.data, name, stored.media_type)
    index: Index | None = None
    if isinstance(manifest, Index):
        index, best = manifest, manifest.best(platform)
        found = registry.manifest(best.digest)
        if found is None or found.digest != best.digest:
            raise HostileError(f"the index {name} names what is not there", hint="Push it again")
        manifest = model.parse_manifest(found.data, best.digest, found.media_type)
    if not isinstance(manifest, Manifest):
        raise HostileError(f"{name} is an index of indexes", hint="Push one image")
    config = registry.small_blob(manifest.config.digest)
    image = replace(archive.describe(manifest, index, config, name), digest=digest)
    if not layers or any("zstd" in layer.media_type for layer in manifest.layers):
        return image
    read: list[Layer] = []
    for layer in manifest.layers:
        with registry.blob(layer.digest) as content:
            read.append(read_layer(content))
    size = sum(file.size for layer in read for file in layer)
    return replace(image, files=merge(read), size_bytes=size)
