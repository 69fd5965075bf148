"""The service ECR: the operations of its API, and the registry behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from sagemaker_byoc.region.containers.images import Reference
from sagemaker_byoc.region.containers.specs import PushedImage
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.records import now
from sagemaker_byoc.region.core.threads import Threads
from sagemaker_byoc.region.services.ecr.blobs import DIGEST
from sagemaker_byoc.region.services.ecr.distribution import RegistryHttp, Tokens
from sagemaker_byoc.region.services.ecr.images import ImageOperations, Manifests
from sagemaker_byoc.region.services.ecr.policies import (
    check_lifecycle_policy,
    check_repository_policy,
)
from sagemaker_byoc.region.services.ecr.repositories import (
    Repositories,
    Repository,
    invalid,
    no_repository,
    page,
)
from sagemaker_byoc.region.wire.http import Handler
from sagemaker_byoc.region.wire.operations import AwsError, Parameters, ThreadOperation

_MOST_CONFIG = 4 << 20
"""Largest configuration of an image, in bytes."""


class Registry:
    """`url` is the region's, `http://127.0.0.1:PORT`. Repository URIs start with its host and port,
    so that `docker push` finds it."""

    def __init__(self, *, state: Path, account: Account, url: str) -> None:
        folder = state / "registry"
        self._account = account
        self._url = url
        self._host = url.removeprefix("http://")
        self.repositories = repositories = Repositories(folder, account.id)
        self._manifests = Manifests(repositories, account.id)
        self._images = ImageOperations(repositories, self._manifests, account)
        self._tokens = Tokens(folder)
        self._threads = Threads("ecr")
        self.handler: Handler = RegistryHttp(
            repositories, self._manifests, self._tokens, self._threads
        )

    def pushed(self, reference: Reference) -> PushedImage | None:
        """Return the image that `reference` names here, by its digest or its tag."""
        try:
            found = self._manifests.find(
                reference.repository, tag=reference.tag or None, digest=reference.digest or None
            )
        except AwsError:  # the repository does not exist
            return None
        if found is None:
            return None
        token, _ = self._tokens.issue(datetime.now(UTC))
        manifest = self._manifests.document(found)
        return PushedImage(
            digest=found.digest,
            media_type=found.media_type,
            manifest=manifest,
            architecture=self._architecture(manifest),
            host=self._host,
            token=token,
        )

    def _architecture(self, manifest: Mapping[str, Any]) -> str:
        """Return the configuration's architecture; "" if it is not a configuration of an image."""
        try:
            path = self.repositories.blobs.path(manifest["config"]["digest"])
            with path.open("rb") as file:
                config = json.loads(file.read(_MOST_CONFIG))
            return str(config["architecture"])
        except (OSError, ValueError, LookupError, TypeError):
            return ""

    def operations(self) -> Mapping[str, ThreadOperation]:
        operations: dict[str, ThreadOperation] = {
            "GetAuthorizationToken": self.get_authorization_token,
            "CreateRepository": self.create_repository,
            "DescribeRepositories": self.describe_repositories,
            "DeleteRepository": self.delete_repository,
            "PutImageTagMutability": self.put_image_tag_mutability,
            "PutImageScanningConfiguration": self.put_image_scanning_configuration,
            "SetRepositoryPolicy": self.set_repository_policy,
            "GetRepositoryPolicy": self.get_repository_policy,
            "DeleteRepositoryPolicy": self.delete_repository_policy,
            "PutLifecyclePolicy": self.put_lifecycle_policy,
            "GetLifecyclePolicy": self.get_lifecycle_policy,
            "DeleteLifecyclePolicy": self.delete_lifecycle_policy,
            "BatchCheckLayerAvailability": self.batch_check_layer_availability,
            "GetDownloadUrlForLayer": self.get_download_url_for_layer,
            "TagResource": self.tag_resource,
            "UntagResource": self.untag_resource,
            "ListTagsForResource": self.list_tags_for_resource,
            **self._images.operations(),
        }
        return {name: partial(self._checked, method) for name, method in operations.items()}

    def close(self) -> None:
        self._threads.close()

    def _checked(self, operation: ThreadOperation, parameters: Parameters) -> Parameters:
        """Run the operation on the region's registry; raise AwsError if another one is named."""
        registry = parameters.get("registryId", self._account.id)
        if registry != self._account.id and "repositoryName" in parameters:
            raise no_repository(parameters["repositoryName"], registry)
        for other in {registry, *parameters.get("registryIds", ())} - {self._account.id}:
            raise AwsError(
                "AccessDeniedException",
                f"The registry with id '{other}' is not that of this local region,"
                f" '{self._account.id}'",
            )
        return operation(parameters)

    def get_authorization_token(self, _: Parameters) -> Parameters:
        token, expires = self._tokens.issue(datetime.now(UTC))
        return {
            "authorizationData": [
                {"authorizationToken": token, "expiresAt": expires, "proxyEndpoint": self._url}
            ]
        }

    # Repositories

    def create_repository(self, parameters: Parameters) -> Parameters:
        scanning = parameters.get("imageScanningConfiguration", {})
        encryption = parameters.get("encryptionConfiguration", {})
        repository = Repository(
            name=parameters["repositoryName"],
            created=now().isoformat(),
            mutability=parameters.get("imageTagMutability", "MUTABLE"),
            exclusions=_exclusions(parameters),
            scan_on_push=scanning.get("scanOnPush", False),
            encryption=encryption.get("encryptionType", "AES256"),
            kms_key=self._kms_key(encryption),
            tags={tag["Key"]: tag["Value"] for tag in parameters.get("tags", ())},
        )
        self.repositories.create(repository)
        return {"repository": self._describe(repository)}

    def _kms_key(self, encryption: Mapping[str, str]) -> str | None:
        """Return the key of the request, or AWS's own; raise AwsError."""
        key = encryption.get("kmsKey")
        if encryption.get("encryptionType", "AES256") != "AES256":
            return key or self._account.arn("kms", "alias/aws/ecr")
        if key is not None:
            why = "'kmsKey must not be provided when encryptionType is AES256'"
            raise invalid("encryptionConfiguration", why)
        return None

    def describe_repositories(self, parameters: Parameters) -> Parameters:
        names = parameters.get("repositoryNames")
        if names:
            return {"repositories": [self._describe(self.repositories.get(name)) for name in names]}
        found = [self._describe(repository) for repository in self.repositories.all()]
        return page(found, parameters, "repositories", by="repositoryName")

    def delete_repository(self, parameters: Parameters) -> Parameters:
        name = parameters["repositoryName"]
        with self.repositories.lock:
            repository = self.repositories.get(name)
            if not parameters.get("force") and self.repositories.images(name):
                raise AwsError(
                    "RepositoryNotEmptyException",
                    f"The repository with name '{name}' in registry with id '{self._account.id}'"
                    " cannot be deleted because it still contains images",
                )
            self.repositories.delete(name)
        return {"repository": self._describe(repository)}

    def put_image_tag_mutability(self, parameters: Parameters) -> Parameters:
        repository = self.repositories.change(
            parameters["repositoryName"],
            mutability=parameters["imageTagMutability"],
            exclusions=_exclusions(parameters),
        )
        described = self._describe(repository)
        return self._about(
            repository,
            **{key: value for key, value in described.items() if key.startswith("imageTag")},
        )

    def put_image_scanning_configuration(self, parameters: Parameters) -> Parameters:
        """Keep the setting; nothing is scanned here."""
        scan = parameters["imageScanningConfiguration"].get("scanOnPush", False)
        repository = self.repositories.change(parameters["repositoryName"], scan_on_push=scan)
        return self._about(repository, imageScanningConfiguration={"scanOnPush": scan})

    # Policies are kept and have no effect: there is only one account

    def set_repository_policy(self, parameters: Parameters) -> Parameters:
        text = parameters["policyText"]
        check_repository_policy(text)
        return self._policy(self.repositories.change(parameters["repositoryName"], policy=text))

    def get_repository_policy(self, parameters: Parameters) -> Parameters:
        return self._policy(self.repositories.get(parameters["repositoryName"]))

    def delete_repository_policy(self, parameters: Parameters) -> Parameters:
        before = self.get_repository_policy(parameters)
        self.repositories.change(parameters["repositoryName"], policy=None)
        return before

    def put_lifecycle_policy(self, parameters: Parameters) -> Parameters:
        """Keep the policy; nothing expires here."""
        text = parameters["lifecyclePolicyText"]
        check_lifecycle_policy(text)
        repository = self.repositories.change(
            parameters["repositoryName"], lifecycle=text, lifecycle_evaluated=now().isoformat()
        )
        document = self._lifecycle(repository)
        del document["lastEvaluatedAt"]
        return document

    def get_lifecycle_policy(self, parameters: Parameters) -> Parameters:
        return self._lifecycle(self.repositories.get(parameters["repositoryName"]))

    def delete_lifecycle_policy(self, parameters: Parameters) -> Parameters:
        before = self.get_lifecycle_policy(parameters)
        self.repositories.change(parameters["repositoryName"], lifecycle=None)
        return before

    # Layers

    def batch_check_layer_availability(self, parameters: Parameters) -> Parameters:
        name = parameters["repositoryName"]
        self.repositories.get(name)
        layers, failures = [], []
        for digest in parameters["layerDigests"]:
            if not DIGEST.fullmatch(digest):
                failures.append(
                    {
                        "layerDigest": digest,
                        "failureCode": "InvalidLayerDigest",
                        "failureReason": "Invalid layer digest",
                    }
                )
                continue
            layer: dict[str, Any] = {"layerDigest": digest, "layerAvailability": "UNAVAILABLE"}
            if self.repositories.linked(name, digest):
                layer["layerAvailability"] = "AVAILABLE"
                layer["layerSize"] = self.repositories.blobs.path(digest).stat().st_size
            layers.append(layer)
        return {"layers": layers, "failures": failures}

    def get_download_url_for_layer(self, parameters: Parameters) -> Parameters:
        name, digest = parameters["repositoryName"], parameters["layerDigest"]
        self.repositories.get(name)
        where = f"'{digest}' in the repository with name '{name}' in registry '{self._account.id}'"
        if not DIGEST.fullmatch(digest) or not self.repositories.linked(name, digest):
            raise AwsError("LayersNotFoundException", f"The layer {where} does not exist")
        if digest not in self.repositories.named(name):
            raise AwsError("LayerInaccessibleException", f"No image names the layer {where}")
        path = self._tokens.signed(f"/v2/{name}/blobs/{digest}", datetime.now(UTC))
        return {"downloadUrl": f"{self._url}{path}", "layerDigest": digest}

    # Tags

    def tag_resource(self, parameters: Parameters) -> Parameters:
        added = {tag["Key"]: tag["Value"] for tag in parameters["tags"]}
        with self.repositories.lock:
            repository = self._of_arn(parameters["resourceArn"])
            self.repositories.change(repository.name, tags={**repository.tags, **added})
        return {}

    def untag_resource(self, parameters: Parameters) -> Parameters:
        with self.repositories.lock:
            repository = self._of_arn(parameters["resourceArn"])
            gone = set(parameters["tagKeys"])
            left = {key: value for key, value in repository.tags.items() if key not in gone}
            self.repositories.change(repository.name, tags=left)
        return {}

    def list_tags_for_resource(self, parameters: Parameters) -> Parameters:
        tags = self._of_arn(parameters["resourceArn"]).tags
        return {"tags": [{"Key": key, "Value": value} for key, value in tags.items()]}

    def _of_arn(self, arn: str) -> Repository:
        start = self._account.arn("ecr", "repository/")
        if not arn.startswith(start):
            raise invalid("resourceArn", f"'Invalid ARN', it must start with {start}")
        return self.repositories.get(arn.removeprefix(start))

    def _describe(self, repository: Repository) -> dict[str, Any]:
        described: dict[str, Any] = {
            "repositoryArn": self._account.arn("ecr", f"repository/{repository.name}"),
            "registryId": self._account.id,
            "repositoryName": repository.name,
            "repositoryUri": f"{self._host}/{repository.name}",
            "createdAt": repository.created_at,
            "imageTagMutability": repository.mutability,
            "imageScanningConfiguration": {"scanOnPush": repository.scan_on_push},
            "encryptionConfiguration": {
                "encryptionType": repository.encryption,
                **({"kmsKey": repository.kms_key} if repository.kms_key else {}),
            },
        }
        if repository.exclusions:
            described["imageTagMutabilityExclusionFilters"] = [
                {"filterType": "WILDCARD", "filter": pattern} for pattern in repository.exclusions
            ]
        return described

    def _policy(self, repository: Repository) -> Parameters:
        if repository.policy is None:
            raise self._no_policy("Repository", repository)
        return self._about(repository, policyText=repository.policy)

    def _lifecycle(self, repository: Repository) -> Parameters:
        if repository.lifecycle is None:
            raise self._no_policy("Lifecycle", repository)
        evaluated = datetime.fromisoformat(repository.lifecycle_evaluated or repository.created)
        return self._about(
            repository, lifecyclePolicyText=repository.lifecycle, lastEvaluatedAt=evaluated
        )

    def _about(self, repository: Repository, **members: object) -> Parameters:
        return {"registryId": self._account.id, "repositoryName": repository.name, **members}

    def _no_policy(self, kind: str, repository: Repository) -> AwsError:
        return AwsError(
            f"{kind}PolicyNotFoundException",
            f"{kind} policy does not exist for the repository with name '{repository.name}' in the"
            f" registry with id '{self._account.id}'",
        )


def _exclusions(parameters: Parameters) -> tuple[str, ...]:
    filters = parameters.get("imageTagMutabilityExclusionFilters", ())
    return tuple(entry["filter"] for entry in filters)
