"""Operations of the ecr API on images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.services.ecr.blobs import DIGEST
from sagemaker_byoc.region.services.ecr.manifests import Manifests
from sagemaker_byoc.region.services.ecr.repositories import Image, Repositories, page
from sagemaker_byoc.region.wire.operations import AwsError, Parameters


class ImageOperations:
    def __init__(self, repositories: Repositories, manifests: Manifests, account: Account) -> None:
        self._repositories = repositories
        self._manifests = manifests
        self._registry = account.id

    def operations(self) -> dict[str, Callable[[Parameters], Parameters]]:
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
