"""The image of a launch in AWS: pinned to its digest, and one that SageMaker can run."""

from __future__ import annotations

import json
import re
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sagemaker_byoc.cloud.errors import CloudError
from sagemaker_byoc.images import reference
from sagemaker_byoc.images.errors import RequestError
from sagemaker_byoc.images.model import DOCKER_MANIFEST
from sagemaker_byoc.launch.errors import RefusedError, SettingsError
from sagemaker_byoc.launch.host_images import cuda_of
from sagemaker_byoc.launch.plan import Caller
from sagemaker_byoc.launch.shared import Shared

_MISSING = frozenset({"ImageNotFoundException", "RepositoryNotFoundException"})
_ARM = re.compile(r"ml\.([a-z]+\d+g[a-z]*|p6e-gb\d+)\.")
_MOST_CONFIG = 4 * 2**20
_SECONDS = 30.0
_CURE = (
    "`byoc push` stores it as SageMaker takes it; so do docker buildx build --platform {platform} "
    "--provenance=false, and skopeo copy --format v2s2"
)


@dataclass(frozen=True, slots=True)
class Pinned:
    image: str
    """With its digest: a tag may mean another image tomorrow."""
    digest: str
    cuda: str | None = None
    """The CUDA version of its build; empty if it states none, None if it can't be read."""


def in_ecr(shared: Shared, text: str, region: str) -> tuple[reference.Reference, reference.EcrHost]:
    """Return what `text` names. Raise SettingsError if SageMaker can't pull it in `region`.

    An empty `region` is not known yet.
    """
    where = f"{shared.where}: image"
    try:
        parsed = reference.parse(text)
    except RequestError as error:
        raise SettingsError(f"{where}: {error.what}", cure=error.cure) from error
    host = reference.ecr_host(parsed.registry)
    if host is None:
        raise SettingsError(
            f"{where} is {text!r}, which SageMaker can't pull: it is in no ECR registry",
            cure=f"byoc push {text}, and take the name that it prints",
        )
    if region and host.region != region:
        raise SettingsError(
            f"{where} is in {host.region}, and the launch in {region}",
            cure="SageMaker pulls from its own region only: push it there, or set region",
        )
    return parsed, host


def pin(shared: Shared, text: str, caller: Caller) -> Pinned:
    """Return the image that `text` names now.

    Raises SettingsError if SageMaker can't pull it or can't run it.
    """
    where = f"{shared.where}: image"
    parsed, host = in_ecr(shared, text, caller.region)
    wanted = {"imageDigest": parsed.digest} if parsed.digest else {"imageTag": parsed.target}
    asked = {
        "registryId": host.account,
        "repositoryName": parsed.repository,
        "imageIds": [wanted],
    }
    try:
        (detail,) = caller.call("ecr", "DescribeImages", asked)["imageDetails"]
        digest = str(detail["imageDigest"])
        machine = "arm64" if _ARM.match(shared.instance_type) else "amd64"
        config = _configuration(asked, digest, caller)
        _check(f"{where}: {text}", detail, machine, str(config.get("architecture", "")))
    except (RefusedError, CloudError) as error:
        if parsed.digest:
            return Pinned(text, parsed.digest)  # who launches it need not be able to read it
        if isinstance(error, RefusedError) and error.code in _MISSING:
            raise SettingsError(
                f"{where}: {text} is not in ECR", cure="Push it: byoc push IMAGE"
            ) from error
        raise
    image = f"{parsed.registry}/{parsed.repository}@{digest}"
    return Pinned(image, digest, cuda_of(config) if config else None)


def _check(image: str, detail: dict[str, Any], machine: str, found: str) -> None:
    cure = _CURE.format(platform=f"linux/{machine}")
    kind = detail.get("imageManifestMediaType") or DOCKER_MANIFEST
    if kind != DOCKER_MANIFEST:
        raise SettingsError(f"{image} is stored as {kind}, which SageMaker refuses", cure=cure)
    if found not in {"", machine}:
        raise SettingsError(
            f"{image} is built for {found}, and the instances are {machine}", cure=cure
        )


def _configuration(asked: dict[str, Any], digest: str, caller: Caller) -> dict[str, Any]:
    """Return the image's configuration, empty if it can't be read."""
    place = {key: asked[key] for key in ("registryId", "repositoryName")}
    with suppress(RefusedError, CloudError, OSError, ValueError, LookupError, TypeError):
        ids = [{"imageDigest": digest}]
        (image,) = caller.call("ecr", "BatchGetImage", {**place, "imageIds": ids})["images"]
        config = json.loads(image["imageManifest"])["config"]["digest"]
        layer = {**place, "layerDigest": config}
        url = caller.call("ecr", "GetDownloadUrlForLayer", layer)["downloadUrl"]
        return _read(url)
    return {}


def _read(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310 - ECR's own URL
        document = json.loads(answer.read(_MOST_CONFIG))
    return document if isinstance(document, dict) else {}
