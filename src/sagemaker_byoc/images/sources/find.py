"""From what a user names to an image: an archive's path, an engine's image, a registry's."""

from __future__ import annotations

from pathlib import Path

from sagemaker_byoc.host import image_reference
from sagemaker_byoc.images.credentials import docker_login
from sagemaker_byoc.images.model import Image
from sagemaker_byoc.images.registry import Registry
from sagemaker_byoc.images.sources import archive, engine, remote

REMOTE = "docker://"
_ARCHIVES = ("docker-archive:", "oci-archive:", "oci:")


def read_image(name: str, *, layers: bool = True) -> Image:
    """`name` as skopeo has it (docker://…, oci:DIR, docker-archive:FILE), a path, or a plain name.

    A plain name is the engine's. Raises ImageError.
    """
    if name.startswith(REMOTE):
        parsed = image_reference.parse(name.removeprefix(REMOTE))
        return remote.read(Registry(parsed, docker_login(parsed.registry)), layers=layers)
    path = archive_path(name)
    if path is not None:
        return archive.read_archive(path)
    image_reference.parse(name)
    return engine.read(name, layers=layers)


def archive_path(name: str) -> Path | None:
    """The path, where `name` is one."""
    for prefix in _ARCHIVES:
        if name.startswith(prefix):
            return Path(name.removeprefix(prefix))
    path = Path(name)
    return path if path.exists() and ("/" in name or path.is_file()) else None
