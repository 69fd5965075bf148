"""ECR: log in, create or change a repository, describe an image in it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sagemaker_byoc.cloud.session import AwsError, Cloud
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.host.aws_calls import Call, only

MUTABLE, IMMUTABLE = "MUTABLE", "IMMUTABLE"
LOGIN = Call("ecr", "GetAuthorizationToken")
_RULE = "byoc: keep the last untagged images"


@dataclass(frozen=True, slots=True)
class Authorization:
    """Valid for every registry that the credentials may use, for 12 hours."""

    user: str
    password: str = field(repr=False)
    endpoint: str
    """The registry's own address with its scheme."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedRepository:
    """None leaves a setting as it is, or at ECR's default."""

    name: str
    account: str
    mutability: str | None = None
    scan_on_push: bool | None = None
    untagged_kept: int | None = None
    """How many untagged images ECR keeps; it deletes older ones."""


@dataclass(frozen=True, slots=True)
class Repository:
    """`uri` is HOST/NAME."""

    uri: str
    mutability: str
    done: tuple[str, ...]
    """Changes that were made, in words."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    digest: str
    media_type: str
    size_bytes: int | None


def log_in(cloud: Cloud) -> Authorization:
    data = only(LOGIN, cloud.call(LOGIN), "authorizationData")
    try:
        decoded = base64.b64decode(data["authorizationToken"], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise AwsError("", "ECR's token is not valid", hint="Check AWS_ENDPOINT_URL") from error
    user, _, password = decoded.partition(":")
    return Authorization(user, password, str(data["proxyEndpoint"]))


def describe(wanted: WantedRepository) -> Call:
    names = [wanted.name]
    return Call(
        "ecr", "DescribeRepositories", {"registryId": wanted.account, "repositoryNames": names}
    )


def create(wanted: WantedRepository) -> Call:
    parameters: dict[str, Any] = {
        "registryId": wanted.account,
        "repositoryName": wanted.name,
        "imageTagMutability": wanted.mutability or MUTABLE,
    }
    if wanted.scan_on_push is not None:
        parameters["imageScanningConfiguration"] = {"scanOnPush": wanted.scan_on_push}
    return Call("ecr", "CreateRepository", parameters)


def set_mutability(wanted: WantedRepository) -> Call:
    return Call(
        "ecr",
        "PutImageTagMutability",
        {**_place(wanted), "imageTagMutability": wanted.mutability},
    )


def set_scanning(wanted: WantedRepository) -> Call:
    setting = {"scanOnPush": wanted.scan_on_push}
    return Call(
        "ecr",
        "PutImageScanningConfiguration",
        {**_place(wanted), "imageScanningConfiguration": setting},
    )


def get_lifecycle(wanted: WantedRepository) -> Call:
    return Call("ecr", "GetLifecyclePolicy", _place(wanted))


def set_lifecycle(wanted: WantedRepository) -> Call:
    """Untagged images only: an endpoint that scales out pulls what its tag once named."""
    rule = {
        "rulePriority": 1,
        "description": _RULE,
        "selection": {
            "tagStatus": "untagged",
            "countType": "imageCountMoreThan",
            "countNumber": wanted.untagged_kept,
        },
        "action": {"type": "expire"},
    }
    text = json.dumps({"rules": [rule]})
    return Call("ecr", "PutLifecyclePolicy", {**_place(wanted), "lifecyclePolicyText": text})


def describe_image(wanted: WantedRepository, digest: str) -> Call:
    return Call("ecr", "DescribeImages", {**_place(wanted), "imageIds": [{"imageDigest": digest}]})


@dataclass(slots=True)
class Ensuring:
    """The calls that bring a repository to its wanted state, and what they have found and done.

    What is not wanted stays as it is.
    """

    cloud: Cloud
    wanted: WantedRepository
    done: list[str] = field(default_factory=list)
    _found: dict[str, Any] | None = None
    _needs_lifecycle: bool = False

    def steps(self) -> list[tuple[Call, str, Callable[[], None]]]:
        """Return each call, when it is made, and how."""
        wanted, otherwise = self.wanted, "if it is otherwise"
        steps = [
            (describe(wanted), "", self._find),
            (create(wanted), "if it is missing", self._create),
        ]
        if wanted.mutability is not None:
            steps.append((set_mutability(wanted), otherwise, self._set_mutability))
        if wanted.scan_on_push is not None:
            steps.append((set_scanning(wanted), otherwise, self._set_scanning))
        if wanted.untagged_kept is not None:
            why = "if it has none, or another of ours"
            steps += [
                (get_lifecycle(wanted), "", self._get_lifecycle),
                (set_lifecycle(wanted), why, self._set_lifecycle),
            ]
        return steps

    @property
    def repository(self) -> Repository:
        found = self._found or {}
        mutability = str(found.get("imageTagMutability", MUTABLE))
        return Repository(str(found["repositoryUri"]), mutability, tuple(self.done))

    def _find(self) -> None:
        try:
            answer = self.cloud.call(describe(self.wanted))
        except AwsError as error:
            if error.code != "RepositoryNotFoundException":
                raise
            return
        self._found = dict(only(describe(self.wanted), answer, "repositories"))

    def _create(self) -> None:
        if self._found is not None:
            return
        try:
            self._found = dict(self.cloud.call(create(self.wanted))["repository"])
        except AwsError as error:
            if error.code != "RepositoryAlreadyExistsException":
                raise
            self._find()  # somebody else was quicker
            if self._found is None:
                raise
        self.done.append("created")

    def _set_mutability(self) -> None:
        before, wanted = self.repository.mutability, self.wanted.mutability
        if before != wanted:
            self.cloud.call(set_mutability(self.wanted))
            self.done.append(f"tags {before} -> {wanted}")
            self._found = {**(self._found or {}), "imageTagMutability": wanted}

    def _set_scanning(self) -> None:
        scans = bool((self._found or {}).get("imageScanningConfiguration", {}).get("scanOnPush"))
        if scans != self.wanted.scan_on_push:
            self.cloud.call(set_scanning(self.wanted))
            wanted = self.wanted.scan_on_push
            self.done.append("scanned on push" if wanted else "no longer scanned on push")

    def _get_lifecycle(self) -> None:
        self._needs_lifecycle = _needs_lifecycle(self.cloud, self.wanted)

    def _set_lifecycle(self) -> None:
        if self._needs_lifecycle:
            self.cloud.call(set_lifecycle(self.wanted))
            self.done.append(f"the last {self.wanted.untagged_kept} untagged images kept")


def stored_image(cloud: Cloud, wanted: WantedRepository, digest: str) -> StoredImage:
    asked = describe_image(wanted, digest)
    detail = only(asked, cloud.call(asked), "imageDetails")
    return StoredImage(
        str(detail["imageDigest"]),
        str(detail.get("imageManifestMediaType", "")),
        detail.get("imageSizeInBytes"),
    )


def _place(wanted: WantedRepository) -> dict[str, Any]:
    return {"registryId": wanted.account, "repositoryName": wanted.name}


def _needs_lifecycle(cloud: Cloud, wanted: WantedRepository) -> bool:
    """Raise RequestError if the policy is not ours: replacing it could delete images."""
    try:
        text = str(cloud.call(get_lifecycle(wanted))["lifecyclePolicyText"])
    except AwsError as error:
        if error.code == "LifecyclePolicyNotFoundException":
            return True
        raise
    try:
        rules = json.loads(text)["rules"]
        ours = [rule.get("description") for rule in rules] == [_RULE]
        if ours:
            kept = rules[0]["selection"]["countNumber"]
            return bool(kept != wanted.untagged_kept)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise RequestError(
        f"--lifecycle: the repository {wanted.name} already has another lifecycle policy",
        hint="Leave --lifecycle out, or delete that policy: aws ecr delete-lifecycle-policy"
        f" --repository-name {wanted.name}",
    )
