"""Images of a repository: the rules of manifests, and the operations of the ecr API."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from sagemaker_byoc.host.registry_images import INDEXES, MANIFESTS
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.services.ecr.blobs import DIGEST
from sagemaker_byoc.region.services.ecr.repositories import (
    Image,
    Repositories,
    Repository,
    invalid,
    page,
)
from sagemaker_byoc.region.wire.operations import AwsError, Parameters, ThreadOperation

TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
MAX_MANIFEST = 4 << 20
"""The size that a registry should accept (distribution specification, "Pushing manifests")."""

_DEPTH = 2
"""Nested lists that are followed for a size."""


class Manifests:
    """What the ecr API and the registry share: putting and finding images."""

    def __init__(self, repositories: Repositories, registry: str) -> None:
        self._repositories = repositories
        self._registry = registry

    def put(
        self,
        name: str,
        data: bytes,
        media_type: str,
        *,
        tag: str | None = None,
        digest: str | None = None,
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
            why = f"'{tag}' must satisfy regular expression '{TAG.pattern}'"
            raise invalid("imageTag", why)
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


def _invalid(why: str) -> AwsError:
    return invalid("ImageManifest", why)


def _is_fixed(repository: Repository, tag: str) -> bool:
    excluded = any(fnmatchcase(tag, pattern) for pattern in repository.exclusions)
    return repository.mutability.startswith("IMMUTABLE") != excluded


class ImageOperations:
    def __init__(self, repositories: Repositories, manifests: Manifests, account: Account) -> None:
        self._repositories = repositories
        self._manifests = manifests
        self._registry = account.id

    def operations(self) -> dict[str, ThreadOperation]:
        return {
            "DescribeImages": self.describe_images,
            "ListImages": self.list_images,
            "BatchGetImage": self.batch_get_image,
            "BatchDeleteImage": self.batch_delete_image,
            "PutImage": self.put_image,
        }

    def describe_images(self, parameters: Parameters) -> Parameters:
        name = parameters["repositoryName"]
        tags = self._tags_by_digest(name)
        wanted = parameters.get("imageIds")
        if wanted:
            return {
                "imageDetails": [
                    self._detail(name, self._existing(name, image_id), tags) for image_id in wanted
                ]
            }
        status = parameters.get("filter", {}).get("tagStatus", "ANY")
        images = [
            image
            for image in self._repositories.images(name)
            if status == "ANY" or (status == "TAGGED") == (image.digest in tags)
        ]
        return page(
            [self._detail(name, image, tags) for image in images],
            parameters,
            "imageDetails",
            by="imageDigest",
        )

    def list_images(self, parameters: Parameters) -> Parameters:
        name = parameters["repositoryName"]
        tags = self._tags_by_digest(name)
        status = parameters.get("filter", {}).get("tagStatus", "ANY")
        found: list[dict[str, Any]] = []
        for image in self._repositories.images(name):
            if image.digest in tags and status != "UNTAGGED":
                found += (
                    {"imageDigest": image.digest, "imageTag": tag} for tag in tags[image.digest]
                )
            elif image.digest not in tags and status != "TAGGED":
                found.append({"imageDigest": image.digest})
        return page(found, parameters, "imageIds", by="imageDigest", then="imageTag")

    def batch_get_image(self, parameters: Parameters) -> Parameters:
        """Return images; one whose media type is not accepted counts as not found."""
        name = parameters["repositoryName"]
        accepted = parameters.get("acceptedMediaTypes")
        images, failures = [], []
        for image_id in parameters["imageIds"]:
            found = self._look(name, image_id)
            if isinstance(found, dict):
                failures.append(found)
            elif accepted and found.media_type not in accepted:
                failures.append(_failure(image_id, "ImageNotFound", "Requested image not found"))
            else:
                images.append(self._image(name, found, image_id.get("imageTag")))
        return {"images": images, "failures": failures}

    def batch_delete_image(self, parameters: Parameters) -> Parameters:
        """Delete an image by its digest, or a tag; the last tag takes the image with it."""
        name = parameters["repositoryName"]
        deleted, failures = [], []
        with self._repositories.lock:
            for image_id in parameters["imageIds"]:
                found = self._look(name, image_id)
                if isinstance(found, dict):
                    failures.append(found)
                    continue
                tags = self._tags_by_digest(name).get(found.digest, [])
                tag = image_id.get("imageTag")
                last = tag is None or tags == [tag]
                if last and (lists := self._manifests.referring(name, found.digest)):
                    failures.append(
                        _failure(
                            {"imageDigest": found.digest, **image_id},
                            "ImageReferencedByManifestList",
                            f"Requested image referenced by manifest list: {lists}",
                        )
                    )
                    continue
                gone = tags if tag is None else [tag]
                deleted += [{"imageDigest": found.digest, "imageTag": name} for name in gone] or [
                    {"imageDigest": found.digest}
                ]
                if last:
                    self._repositories.remove_image(name, found.digest)
                else:
                    self._repositories.untag(name, str(tag))
            self._repositories.sweep()
        return {"imageIds": deleted, "failures": failures}

    def put_image(self, parameters: Parameters) -> Parameters:
        """Tag an existing image, or add a manifest whose layers exist."""
        name, tag = parameters["repositoryName"], parameters.get("imageTag")
        data = parameters["imageManifest"].encode()
        with self._repositories.lock:
            before = self._repositories.tags(name)
            image = self._manifests.put(
                name,
                data,
                parameters.get("imageManifestMediaType", ""),
                tag=tag,
                digest=parameters.get("imageDigest"),
            )
        if tag is not None and before.get(tag) == image.digest:
            raise AwsError(
                "ImageAlreadyExistsException",
                f"Image with digest '{image.digest}' and tag '{tag}' already exists in the"
                f" repository with name '{name}' in registry with id '{self._registry}'",
            )
        return {"image": self._image(name, image, tag)}

    def _look(self, name: str, image_id: dict[str, str]) -> Image | dict[str, Any]:
        """Return the image, or the failure that says why it is missing."""
        tag, digest = image_id.get("imageTag"), image_id.get("imageDigest")
        if tag is None and digest is None:
            return _failure(
                image_id,
                "MissingDigestAndTag",
                "Invalid request parameters: both tag and digest cannot be null",
            )
        if digest is not None and not DIGEST.fullmatch(digest):
            return _failure(
                image_id,
                "InvalidImageDigest",
                f"Invalid request parameters: image digest '{digest}'",
            )
        found = self._manifests.find(name, tag=tag, digest=digest)
        if found is not None:
            return found
        tagged = tag is not None and tag in self._repositories.tags(name)
        if tagged and digest is not None and self._manifests.find(name, digest=digest):
            return _failure(
                image_id,
                "ImageTagDoesNotMatchDigest",
                "Requested image tag and digest do not match",
            )
        return _failure(image_id, "ImageNotFound", "Requested image not found")

    def _existing(self, name: str, image_id: dict[str, str]) -> Image:
        found = self._look(name, image_id)
        if isinstance(found, Image):
            return found
        words = ", ".join(
            f"{key}:'{image_id.get(key, 'null')}'" for key in ("imageDigest", "imageTag")
        )
        raise AwsError(
            "ImageNotFoundException",
            f"The image with imageId {{{words}}} does not exist within the repository with name"
            f" '{name}' in the registry with id '{self._registry}'",
        )

    def _tags_by_digest(self, name: str) -> dict[str, list[str]]:
        tags: dict[str, list[str]] = {}
        for tag, digest in self._repositories.tags(name).items():
            tags.setdefault(digest, []).append(tag)
        return tags

    def _detail(self, name: str, image: Image, tags: dict[str, list[str]]) -> dict[str, Any]:
        document = self._manifests.document(image)
        config, subject = document.get("config"), document.get("subject")
        detail: dict[str, Any] = {
            "registryId": self._registry,
            "repositoryName": name,
            "imageDigest": image.digest,
            "imagePushedAt": image.pushed,
            "imageManifestMediaType": image.media_type,
            "imageSizeInBytes": self._manifests.size(name, image),
            "imageStatus": "ACTIVE",
        }
        if image.digest in tags:
            detail["imageTags"] = tags[image.digest]
        if config is not None and isinstance(config.get("mediaType"), str):
            detail["artifactMediaType"] = config["mediaType"]
        if isinstance(subject, dict) and isinstance(subject.get("digest"), str):
            detail["subjectManifestDigest"] = subject["digest"]
        return detail

    def _image(self, name: str, image: Image, tag: str | None) -> dict[str, Any]:
        image_id = {"imageDigest": image.digest}
        if tag is not None:
            image_id["imageTag"] = tag
        return {
            "registryId": self._registry,
            "repositoryName": name,
            "imageId": image_id,
            "imageManifest": self._repositories.blobs.read(image.digest).decode(),
            "imageManifestMediaType": image.media_type,
        }


def _failure(image_id: dict[str, str], code: str, reason: str) -> dict[str, Any]:
    return {"imageId": image_id, "failureCode": code, "failureReason": reason}
