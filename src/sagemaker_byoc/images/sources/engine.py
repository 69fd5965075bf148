"""An image that an engine holds: `image inspect` and `history`, and what `docker save` streams."""

from __future__ import annotations

from dataclasses import replace

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.contract.files import Json, as_object
from sagemaker_byoc.host import docker
from sagemaker_byoc.images.model import DOCKER_MANIFEST, Image
from sagemaker_byoc.images.sources import archive, documents


def has(reference: str) -> bool:
    return docker.inspect("image", reference) is not None


def read(reference: str, *, layers: bool = True) -> Image:
    """Raises RequestError for an image that the engine doesn't have.

    With `layers` everything is read once through a pipe; nothing is written to a disk here.
    """
    found = docker.inspect("image", reference)
    if found is None:
        raise RequestError(
            f"the engine has no image {reference!r}",
            hint="Name one of `docker images`, an archive's path, or docker://HOST/NAME:TAG",
        )
    inner, size = found.get("Config"), found.get("Size")
    history = docker.run("history", "--no-trunc", "--format", "{{.CreatedBy}}", reference)
    image = Image(
        reference=reference,
        source="engine",
        config=documents.make_config(
            as_object(inner),
            os=str(found.get("Os", "")),
            architecture=str(found.get("Architecture", "")),
            history=tuple(reversed(history.splitlines())),
        ),
        manifest_type=_pushed_as(found),
        digest=str(found.get("Id", "")),
        size_bytes=size if isinstance(size, int) else None,
    )
    if not layers:
        return image
    with docker.saved(reference, image.digest or "") as stream:
        return replace(image, files=archive.read_stream(stream, reference).files)


def _pushed_as(found: dict[str, Json]) -> str:
    """An engine that keeps images in containerd's store says what it keeps, and pushes just that;
    one without pushes Docker's own type."""
    descriptor = found.get("Descriptor")
    kept = descriptor.get("mediaType") if isinstance(descriptor, dict) else None
    return str(kept) if kept else DOCKER_MANIFEST
