"""Rules of putting and finding images, which the ecr API and the registry share."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from sagemaker_byoc.host.stored_image import INDEXES, MANIFESTS
from sagemaker_byoc.region.services.ecr.blobs import DIGEST
from sagemaker_byoc.region.services.ecr.repositories import Image, Repositories, Repository
from sagemaker_byoc.region.wire.operations import AwsError

TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
MAX_MANIFEST = 4 << 20
"""The size that a registry should accept (distribution specification, "Pushing manifests")."""

_DEPTH = 2
"""Nested lists that are followed for a size."""


class Manifests:
    def __init__(self, repositories: Repositories, registry: str) -> None:
        self._repositories = repositories
        self._registry = registry

    def put(
        self, name: str, data: bytes, media_type: str, *, tag: str | None, digest: str | None = None
    ) -> Image:
        """Put an image; raise AwsError with the codes of PutImage."""
        repository = self._repositories.get(name)
        document = parse(data, media_type)
        media_type = media_type or document["mediaType"]
        actual = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if digest is not None and digest != actual:
            raise AwsError(
                "ImageDigestDoesNotMatchException",
                f"The provided digest '{digest}' does not match that of the manifest, '{actual}'",
            )
        if tag is not None and not TAG.fullmatch(tag):
            raise AwsError(
                "InvalidParameterException",
                f"Invalid parameter at 'imageTag' failed to satisfy constraint: '{tag}' must"
                f" satisfy regular expression '{TAG.pattern}'",
            )
        with self._repositories.lock:
            self._check_references(name, document, media_type)
            if tag is not None:
                self._check_tag(repository, tag, actual)
            return self._repositories.put_image(name, data, media_type, tag)

    def find(self, name: str, *, tag: str | None = None, digest: str | None = None) -> Image | None:
        """Return the image, or None if it is missing or if tag and digest name different ones."""
        self._repositories.get(name)
        if tag is not None:
            tagged = self._repositories.tags(name).get(tag)
            if tagged is None or digest not in {None, tagged}:
                return None
            digest = tagged
        if digest is None or not DIGEST.fullmatch(digest):
            return None
        return self._repositories.image(name, digest)

    def document(self, image: Image) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self._repositories.blobs.read(image.digest))
        return document

    def size(self, name: str, image: Image, depth: int = _DEPTH) -> int:
        """Return the bytes of a pull: configuration and layers as they were pushed.

        For a list, those of its largest image (ECR API: ImageDetail.imageSizeInBytes).
        """
        document = self.document(image)
        if image.media_type in INDEXES:
            named = (self.find(name, digest=each["digest"]) for each in document["manifests"])
            members = [each for each in named if each is not None and depth]
            return max((self.size(name, each, depth - 1) for each in members), default=0)
        entries = [document.get("config"), *document.get("layers", ())]
        return sum(int(entry["size"]) for entry in entries if entry)

    def referring(self, name: str, digest: str) -> list[str]:
        """Return the lists in the repository that name this image."""
        return [
            image.digest
            for image in self._repositories.images(name)
            if image.media_type in INDEXES
            and any(entry["digest"] == digest for entry in self.document(image)["manifests"])
        ]

    def _check_references(self, name: str, document: Mapping[str, Any], media_type: str) -> None:
        where = f"pushing image into repository with name '{name}' in the registry with id"
        if media_type in INDEXES:
            digests = [str(entry["digest"]) for entry in document["manifests"]]
            missing = [
                digest for digest in digests if self._repositories.image(name, digest) is None
            ]
            if missing:
                raise AwsError(
                    "ReferencedImagesNotFoundException",
                    f"Images with digests '{missing}' required for {where} '{self._registry}' do"
                    " not exist",
                )
            return
        entries = [document["config"], *document["layers"]]
        missing = [
            entry["digest"]
            for entry in entries
            if not entry.get("urls") and not self._repositories.linked(name, entry["digest"])
        ]
        if missing:
            raise AwsError(
                "LayersNotFoundException",
                f"Layers with digests '{missing}' required for {where} '{self._registry}' do not"
                " exist",
            )

    def _check_tag(self, repository: Repository, tag: str, digest: str) -> None:
        if not _is_fixed(repository, tag):
            return
        before = self._repositories.tags(repository.name).get(tag)
        if before not in {None, digest}:
            raise AwsError(
                "ImageTagAlreadyExistsException",
                f"The image tag '{tag}' already exists in the '{repository.name}' repository and"
                " cannot be overwritten because the tag is immutable.",
            )


def parse(data: bytes, media_type: str) -> dict[str, Any]:
    """Return the manifest; raise AwsError InvalidParameterException if it is not valid."""
    try:
        document = json.loads(data)
    except ValueError:
        raise _invalid("it is not JSON") from None
    if not isinstance(document, dict):
        raise _invalid("it is not an object")
    stated = document.get("mediaType", media_type)
    if media_type and stated != media_type:
        raise _invalid(f"its mediaType is {stated!r}, but the request says {media_type!r}")
    if stated not in INDEXES | MANIFESTS:
        raise _invalid(f"its media type is {stated!r}, not one of {sorted(INDEXES | MANIFESTS)}")
    entries = (
        document.get("manifests")
        if stated in INDEXES
        else [document.get("config"), *_list(document.get("layers"))]
    )
    if not isinstance(entries, list) or not all(map(_is_descriptor, entries)):
        raise _invalid("it names blobs without digest and size")
    document["mediaType"] = stated
    document.setdefault("layers", [])
    return document


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _is_descriptor(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("size"), int)
        and isinstance(entry.get("digest"), str)
        and DIGEST.fullmatch(entry["digest"]) is not None
    )


def _invalid(what: str) -> AwsError:
    return AwsError(
        "InvalidParameterException",
        f"Invalid parameter at 'ImageManifest' failed to satisfy constraint: {what}",
    )


def _is_fixed(repository: Repository, tag: str) -> bool:
    excluded = any(fnmatchcase(tag, pattern) for pattern in repository.exclusions)
    return repository.mutability.startswith("IMMUTABLE") != excluded
