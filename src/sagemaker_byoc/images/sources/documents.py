"""An image's JSON documents: manifest, index, configuration. What they hold may be hostile."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sagemaker_byoc.contract.files import Json, as_list, as_object, as_string
from sagemaker_byoc.images.errors import HostileError
from sagemaker_byoc.images.model import AMD64, INDEXES, MANIFESTS, OCI_INDEX, OCI_MANIFEST, Config

DOCUMENT_LIMIT = 8 * 2**20
"""Bytes; ECR takes manifests of up to 4 MiB."""
_ATTESTATION = "vnd.docker.reference.type"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One reference from a document to a blob."""

    media_type: str
    digest: str
    size: int
    platform: str = ""
    attestation: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Index:
    media_type: str
    manifests: tuple[Descriptor, ...]

    def best(self, platform: str = AMD64) -> Descriptor:
        """Return the image for `platform`, or else the first image."""
        images = [entry for entry in self.manifests if not entry.attestation]
        if not images:
            raise HostileError("the index names no image", hint="Build it again")
        fitting = [entry for entry in images if entry.platform == platform]
        return (fitting or images)[0]


def parse(data: bytes, what: str) -> dict[str, Json]:
    """The JSON object in `data`."""
    if len(data) > DOCUMENT_LIMIT:
        raise HostileError(f"{what} is over {DOCUMENT_LIMIT >> 20} MiB", hint="Build it again")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise HostileError(f"{what} is not JSON", hint="Build it again") from error
    return as_object(found)


def parse_manifest(data: bytes, what: str, media_type: str = "") -> Manifest | Index:
    """`media_type` is what came beside the document; what it says itself comes first."""
    document = parse(data, what)
    said = as_string(document.get("mediaType")) or media_type
    if said in INDEXES or (not said and "manifests" in document):
        entries = tuple(_descriptor(entry) for entry in as_list(document.get("manifests")))
        return Index(said or OCI_INDEX, entries)
    if said and said not in MANIFESTS:
        raise HostileError(
            f"{what} is of the type {said}", hint="Build it again with a current builder"
        )
    layers = tuple(_descriptor(layer) for layer in as_list(document.get("layers")))
    return Manifest(said or OCI_MANIFEST, _descriptor(document.get("config")), layers)


def parse_config(data: bytes, what: str) -> Config:
    """The configuration blob of an image, which Docker and OCI share."""
    document = parse(data, what)
    config = make_config(
        as_object(document.get("config")),
        os=as_string(document.get("os")),
        architecture=as_string(document.get("architecture")),
        history=tuple(
            as_string(as_object(step).get("created_by"))
            for step in as_list(document.get("history"))
        ),
    )
    diff_ids = _words(as_object(document.get("rootfs")).get("diff_ids"))
    return replace(config, diff_ids=diff_ids)


def make_config(
    inner: Mapping[str, Json], *, os: str, architecture: str, history: tuple[str, ...]
) -> Config:
    """`inner` is the part about running, which an engine's `image inspect` spells the same."""
    pairs = (as_string(pair).partition("=") for pair in as_list(inner.get("Env")))
    return Config(
        os=os,
        architecture=architecture,
        history=history,
        entrypoint=_words(inner.get("Entrypoint")),
        command=_words(inner.get("Cmd")),
        environment={name: value for name, _, value in pairs if name},
        labels={key: as_string(value) for key, value in as_object(inner.get("Labels")).items()},
        user=as_string(inner.get("User")),
        folder=as_string(inner.get("WorkingDir")),
        volumes=tuple(as_object(inner.get("Volumes"))),
        ports=tuple(as_object(inner.get("ExposedPorts"))),
        stop_signal=as_string(inner.get("StopSignal")),
    )


def _descriptor(value: Json) -> Descriptor:
    entry = as_object(value)
    digest, size = as_string(entry.get("digest")), entry.get("size")
    if not digest or not isinstance(size, int) or size < 0:
        raise HostileError("a manifest with a reference to nothing", hint="Build the image again")
    platform = as_object(entry.get("platform"))
    names = [as_string(platform.get("os")), as_string(platform.get("architecture"))]
    return Descriptor(
        media_type=as_string(entry.get("mediaType")),
        digest=digest,
        size=size,
        platform="/".join(names) if all(names) else "",
        attestation=_ATTESTATION in as_object(entry.get("annotations")),
    )


def _words(value: Json) -> tuple[str, ...]:
    if isinstance(value, str):  # some builders write one string
        return (value,)
    return tuple(as_string(word) for word in as_list(value))
