"""A push from its beginning to its proof."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Protocol

from sagemaker_byoc.contract.machine import usable_cpus
from sagemaker_byoc.host.image_reference import Reference
from sagemaker_byoc.images.credentials import Login
from sagemaker_byoc.images.errors import HostileError, RegistryError
from sagemaker_byoc.images.model import DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST
from sagemaker_byoc.images.push.content import Content, Layer, Loaded, with_diff_ids
from sagemaker_byoc.images.push.known import KnownLayer, KnownLayers
from sagemaker_byoc.images.push.packing import packed
from sagemaker_byoc.images.push.patience import Patience, StoppedError
from sagemaker_byoc.images.push.slices import GZIP, spooled
from sagemaker_byoc.images.push.upload import How, Uploader, explain_upload
from sagemaker_byoc.images.push.verify import Verified, plain_docker, verify
from sagemaker_byoc.images.registry import Registry, Stored

__all__ = ["Destination", "Progress", "Pushed", "SentLayer", "push"]

AT_ONCE = 4
"""Layers packed and sent at the same time; each may take its packed size of TMPDIR."""


class Progress(Protocol):
    """Called from several threads."""

    def note(self, text: str) -> None: ...

    def begin(self, layers: int, unpacked: int, packed: int) -> None:
        """How many layers there are, and the bytes of those that are not packed, and are."""

    def packed(self, size: int) -> None: ...

    def sending(self, size: int, unpacked: int) -> None:
        """A layer of `unpacked` bytes was packed to `size`."""

    def spared(self, size: int, unpacked: int) -> None:
        """A layer is there: of `size` if it is packed, else of `unpacked` bytes."""

    def sent(self, size: int) -> None: ...

    def done(self, layer: SentLayer) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    registry: str
    repository: str
    tag: str = ""
    """Empty for one that is made from the content."""
    login: Login | None = None
    plain: bool = False
    """Without TLS."""
    immutable: bool = False
    """Its tags can't be moved."""
    platform: str = "linux/amd64"


@dataclass(frozen=True, slots=True)
class SentLayer:
    digest: str
    size: int
    how: How


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    reference: Reference
    """By its digest."""
    tag: str
    verified: Verified
    converted_from: str
    """The media type that it had; empty where it had Docker's, or none."""
    layers: tuple[SentLayer, ...]
    already: bool
    """Nothing had to be done."""


def push(
    content: Content,
    destination: Destination,
    progress: Progress,
    patience: Patience,
    known: KnownLayers,
) -> Pushed:
    """Raises ByocError; what was sent by then is there for the next try."""
    tag = destination.tag or derived_tag(content.config_digest)
    registry = Registry(
        Reference(destination.registry, destination.repository, tag),
        destination.login,
        plain=destination.plain,
    )
    hint = _other_tag(content.config_digest)
    before = patience(registry.manifest)
    there = _same_image(before, content)
    if there is not None:
        found = verify(registry, tag, there, destination.platform, patience)
        layers = tuple(SentLayer(digest, size, How.THERE) for digest, size in found.layers)
        return _pushed(registry, found, content, layers, already=True)
    if before is not None:
        _check_tag(registry, before, destination, progress, hint)
    loaded = with_diff_ids(content.load(), destination.platform, content.name)
    sender = _Sender(registry, patience, progress, known)
    layers = sender.layers(loaded.layers)
    sender.config(loaded)
    data = manifest_of(loaded, layers)
    _put_manifest(registry, data, patience, hint)
    sent = Stored(data, DOCKER_MANIFEST)
    found = verify(registry, tag, sent.digest, destination.platform, patience)
    known.prune()
    return _pushed(registry, found, content, layers, already=False)


def derived_tag(config_digest: str) -> str:
    """From the image itself, so that the same image has the same tag, and another another."""
    return config_digest.partition(":")[2][:12]


def _other_tag(config_digest: str) -> str:
    """Name a tag that no other image has, whether or not --tag gave the one that is taken."""
    return f"Use --tag {derived_tag(config_digest)}, made from this image, or another; or --mutable"


def manifest_of(loaded: Loaded, layers: Sequence[SentLayer]) -> bytes:
    """Docker's manifest: the same bytes for the same image."""
    config = {
        "mediaType": DOCKER_CONFIG,
        "size": len(loaded.config),
        "digest": loaded.config_digest,
    }
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": config,
        "layers": [
            {"mediaType": DOCKER_LAYER, "size": layer.size, "digest": layer.digest}
            for layer in layers
        ],
    }
    return json.dumps(document, indent=2).encode()


def _same_image(before: Stored | None, content: Content) -> str | None:
    """The digest under which the tag has the image already, in a form that SageMaker takes: one
    configuration is one list of unpacked layers."""
    manifest = plain_docker(before) if before is not None else None
    if before is None or manifest is None:
        return None
    if manifest.config.digest == content.config_digest:
        return before.digest
    return None


def _check_tag(
    registry: Registry, before: Stored, destination: Destination, progress: Progress, hint: str
) -> None:
    """Before anything is sent. Raises RegistryError where the tag can't be moved."""
    name = str(registry.reference)
    if destination.immutable:
        raise RegistryError(
            f"{name} is {before.digest} already, and the repository's tags can't be moved",
            hint=hint,
        )
    progress.note(f"{name} was {before.digest}; endpoints that run keep that one")


def _put_manifest(registry: Registry, data: bytes, patience: Patience, hint: str) -> None:
    tag = registry.reference.tag
    try:
        patience(lambda: registry.put_manifest(tag, data, DOCKER_MANIFEST))
    except RegistryError as error:
        if "immutable" not in error.what.lower():
            raise
        raise RegistryError(error.what, hint=hint, status=error.status) from error


def _pushed(
    registry: Registry,
    found: Verified,
    content: Content,
    layers: tuple[SentLayer, ...],
    *,
    already: bool,
) -> Pushed:
    kind = "" if already else content.load().manifest_type
    return Pushed(
        reference=replace(registry.reference, tag="", digest=found.digest),
        tag=registry.reference.tag,
        verified=found,
        converted_from=kind if kind != DOCKER_MANIFEST else "",
        layers=layers,
        already=already,
    )


@dataclass(frozen=True, slots=True)
class _Sender:
    registry: Registry
    patience: Patience
    progress: Progress
    known: KnownLayers

    def layers(self, layers: Sequence[Layer]) -> tuple[SentLayer, ...]:
        """All of them, several at a time; the first that fails stops the others."""
        unpacked = sum(layer.size for layer in layers if not layer.digest)
        self.progress.begin(len(layers), unpacked, sum(layer.size for layer in layers) - unpacked)
        cores = usable_cpus()
        with ThreadPoolExecutor(cores) as packers, ThreadPoolExecutor(AT_ONCE) as senders:
            futures = [senders.submit(self._layer, layer, packers) for layer in layers]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
                _raise_first(futures)
                return tuple(future.result() for future in futures)
            except BaseException:
                self.patience.stop()
                self.registry.abort()
                senders.shutdown(wait=False, cancel_futures=True)
                raise

    def config(self, loaded: Loaded) -> None:
        with spooled(io.BytesIO(loaded.config)) as content:
            self._uploader.send(content, loaded.config_digest)

    @property
    def _uploader(self) -> Uploader:
        return Uploader(self.registry, self.patience, self.progress.sent)

    def _layer(self, layer: Layer, packers: Executor) -> SentLayer:
        self.patience.check()
        try:
            sent = self._there(layer)
            if sent is not None:
                sizes = (layer.size, 0) if layer.digest else (0, layer.size)
                self.progress.spared(*sizes)
            else:
                sent = self._sent(layer, packers)
        except RegistryError as error:
            raise explain_upload(error, layer.digest or layer.diff_id) from error
        self.progress.done(sent)
        return sent

    def _there(self, layer: Layer) -> SentLayer | None:
        """Without its bytes being looked at."""
        if layer.digest:
            origin = layer.origin
            places = (f"{origin.registry}/{origin.repository}",) if origin else ()
            return self._found(KnownLayer(layer.digest, layer.size, places))
        known = self.known.find(layer.diff_id)
        sent = self._found(known) if known is not None else None
        if known is not None and sent is not None:
            self.known.keep(layer.diff_id, known, self._place)
        return sent

    def _found(self, layer: KnownLayer) -> SentLayer | None:
        """In the repository, or in another of the same registry that it can be taken over from."""
        if self._uploader.has(layer.digest, layer.size):
            return SentLayer(layer.digest, layer.size, How.THERE)
        for place in layer.places:
            registry, _, repository = place.partition("/")
            if registry == self.registry.reference.registry and place != self._place:
                if self._uploader.mount(layer.digest, repository):
                    return SentLayer(layer.digest, layer.size, How.MOUNTED)
                return None  # each refusal leaves an upload behind that nobody goes on with
        return None

    @property
    def _place(self) -> str:
        return f"{self.registry.reference.registry}/{self.registry.reference.repository}"

    def _sent(self, layer: Layer, packers: Executor) -> SentLayer:
        with layer.open() as content:
            if layer.digest:
                if content.read(0, 2) != GZIP:
                    raise HostileError(
                        f"the layer {layer.digest} is said to be gzip, and isn't",
                        hint="Build the image anew",
                    )
                how = self._uploader.send(content, layer.digest)
                return SentLayer(layer.digest, content.size, how)
            with packed(content, packers, self._passed) as made:
                if made.diff_id != layer.diff_id:
                    raise HostileError(
                        f"what lies there as the layer {layer.diff_id} is something else",
                        hint="The image is damaged: build or save it anew",
                    )
                # Only of what was packed here: a foreign image may lie about its layers.
                known = KnownLayer(made.digest, made.content.size)
                self.known.keep(layer.diff_id, known)
                self.progress.sending(made.content.size, layer.size)
                how = self._uploader.send(made.content, made.digest)
                self.known.keep(layer.diff_id, known, self._place)
                return SentLayer(made.digest, made.content.size, how)

    def _passed(self, size: int) -> None:
        self.patience.check()
        self.progress.packed(size)


def _raise_first(futures: Sequence[Future[SentLayer]]) -> None:
    """The failure that stopped the others, if any."""
    done = [future for future in futures if future.done() and not future.cancelled()]
    failed = [error for future in done if (error := future.exception()) is not None]
    if failed:
        raise next((e for e in failed if not isinstance(e, StoppedError)), failed[0])
