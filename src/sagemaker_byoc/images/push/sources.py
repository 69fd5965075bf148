"""From what a user names to a content: an engine's image, an archive's, a registry's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.client import HTTPException, HTTPResponse

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.host import docker, image_reference
from sagemaker_byoc.host.image_reference import Reference
from sagemaker_byoc.images.credentials import Login
from sagemaker_byoc.images.errors import HostileError, RegistryError
from sagemaker_byoc.images.model import INDEXES
from sagemaker_byoc.images.push.archive import Archive, archive_at, tar_archive
from sagemaker_byoc.images.push.content import (
    Content,
    Layer,
    Loaded,
    check_manifest,
    check_platform,
    chosen_manifest,
)
from sagemaker_byoc.images.push.patience import Patience
from sagemaker_byoc.images.push.slices import Slice, spooled
from sagemaker_byoc.images.registry import Registry
from sagemaker_byoc.images.sources import documents
from sagemaker_byoc.images.sources.documents import Descriptor
from sagemaker_byoc.images.sources.find import REMOTE, archive_path

_HEX = re.compile(r"[0-9a-f]{64}")

FindLogin = Callable[[str], Login | None]
"""Of a registry's name."""


@contextmanager
def opened(
    name: str, platform: str, log_in: FindLogin, patience: Patience, note: Callable[[str], None]
) -> Iterator[Content]:
    """`name` as `byoc check` takes it: docker://…, oci:DIR, docker-archive:FILE, a path, or an
    image of the engine."""
    path = None if name.startswith(REMOTE) else archive_path(name)
    if name.startswith(REMOTE):
        yield _of_registry(name.removeprefix(REMOTE), platform, log_in, patience)
    elif path is not None:
        with archive_at(path) as archive:
            yield Content(name=name, load_=partial(archive.load, platform))
    else:
        image_reference.parse(name)
        with ExitStack() as stack:
            yield _of_engine(name, platform, stack, note)


def suggested(name: str) -> Reference | None:
    """The name that an image has where it is; None for an archive that doesn't say."""
    if name.startswith(REMOTE):
        return image_reference.parse(name.removeprefix(REMOTE))
    path = archive_path(name)
    if path is None:
        return image_reference.parse(name)
    with archive_at(path) as archive:
        found = archive.image_name
    return image_reference.parse(found) if found else None


def _of_engine(name: str, platform: str, stack: ExitStack, note: Callable[[str], None]) -> Content:
    found = docker.inspect("image", name)
    if found is None:
        raise RequestError(
            f"the engine has no image {name!r}",
            hint="Name one of `docker images`, an archive's path, or docker://HOST/NAME:TAG",
        )
    held = f"{found.get('Os')}/{found.get('Architecture')}"
    if found.get("Descriptor") is None:  # containerd's store may hold several platforms
        check_platform(held, platform, name)
    image_id = str(found.get("Id", "")).removeprefix("sha256:")
    # With containerd's store the id is the manifest's digest, otherwise the configuration's.
    is_config = found.get("Descriptor") is None and bool(_HEX.fullmatch(image_id))

    def load() -> Loaded:
        size = found.get("Size")
        mib = f", {size >> 20} MiB" if isinstance(size, int) else ""
        note(f"reading {name} from the engine{mib}")
        with docker.saved(name, image_id) as stream:
            whole = stack.enter_context(spooled(stream))
        archive: Archive = tar_archive(name, whole)
        return archive.load(platform)

    known = f"sha256:{image_id}" if is_config else ""
    return Content(name=name, known_config=known, load_=load, is_cheap=False)


def _of_registry(name: str, platform: str, log_in: FindLogin, patience: Patience) -> Content:
    parsed = image_reference.parse(name)
    registry = Registry(parsed, log_in(parsed.registry))

    def manifest_data(target: str) -> tuple[bytes, str]:
        stored = patience(lambda: registry.manifest(target))
        if stored is None:
            raise RequestError(f"there is no image {name}", hint="Check its name, tag and login")
        if target.startswith("sha256:") and stored.digest != target:
            raise HostileError(f"what came as {target} is something else", hint="Push it again")
        return stored.data, stored.media_type

    def load() -> Loaded:
        data, media_type = manifest_data(parsed.target)
        top = documents.parse_manifest(data, name, media_type)
        manifest = chosen_manifest(
            top, lambda entry: manifest_data(entry.digest)[0], platform, name
        )
        check_manifest(manifest, name)
        config = patience(lambda: registry.small_blob(manifest.config.digest))
        layers = tuple(_remote_layer(registry, layer, patience) for layer in manifest.layers)
        kind = top.media_type if top.media_type in INDEXES else manifest.media_type
        return Loaded(config=config, layers=layers, manifest_type=kind)

    return Content(name=name, load_=load)


class _Complete:
    """A layer as it comes; one that breaks off is a RegistryError, so that it is fetched again."""

    def __init__(self, stream: HTTPResponse, layer: Descriptor) -> None:
        self._stream = stream
        self._layer = layer
        self._left = layer.size

    def read(self, size: int, /) -> bytes:
        try:
            data = self._stream.read(min(size, self._left + 1))
        except (OSError, HTTPException) as error:
            raise self._broken(type(error).__name__) from error
        self._left -= len(data)
        if not data and self._left > 0:
            raise self._broken(f"{self._left} bytes are missing")
        if self._left < 0:
            raise HostileError(
                f"{self._layer.digest} is longer than its manifest says", hint="Push it again"
            )
        return data

    def _broken(self, why: str) -> RegistryError:
        return RegistryError(
            f"the layer {self._layer.digest} broke off: {why}", hint="Run it again"
        )


def _remote_layer(registry: Registry, layer: Descriptor, patience: Patience) -> Layer:
    @contextmanager
    def fetched() -> Iterator[Slice]:
        def fetch() -> tuple[Slice, ExitStack]:
            with ExitStack() as stack, registry.blob(layer.digest) as stream:
                source = _Complete(stream, layer)
                content = stack.enter_context(spooled(source, layer.digest))
                return content, stack.pop_all()

        content, stack = patience(fetch)
        with stack:
            yield content

    plain = bool(layer.media_type) and "gzip" not in layer.media_type
    return Layer(
        size=layer.size,
        open=fetched,
        digest="" if plain else layer.digest,
        origin=registry.reference,
    )
