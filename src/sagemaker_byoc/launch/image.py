"""The image of a launch in AWS: pinned to its digest, and one that SageMaker can run.

Also the host image of an endpoint's instances, whose NVIDIA driver runs the image's CUDA.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sagemaker_byoc.contract.errors import ByocError, RequestError
from sagemaker_byoc.contract.files import as_list, as_object
from sagemaker_byoc.contract.gpu import (
    CUDA_LABEL,
    DEFAULT_DRIVERS,
    HOST_IMAGES,
    NEWEST_CUDA,
    HostImage,
    gpu_family,
    is_enough,
)
from sagemaker_byoc.host import registry_images
from sagemaker_byoc.host.aws_calls import Call, Caller, RefusedError, only
from sagemaker_byoc.launch.shared import Shared, instance_types
from sagemaker_byoc.launch.table import SettingsError

_MISSING = frozenset({"ImageNotFoundException", "RepositoryNotFoundException"})
_MOST_CONFIG = 4 * 2**20
_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Pinned:
    image: str
    """With its digest: a tag may mean another image tomorrow."""
    digest: str
    cuda: str | None = None
    """The CUDA version of its build; empty if it states none, None if it can't be read."""


def in_ecr(
    shared: Shared, text: str, region: str
) -> tuple[registry_images.Reference, registry_images.EcrHost]:
    """Return what `text` names. Raise SettingsError if SageMaker can't pull it in `region`.

    An empty `region` is not known yet.
    """
    where = f"{shared.where}: image"
    try:
        parsed = registry_images.parse(text)
    except RequestError as error:
        raise SettingsError(f"{where}: {error.what}", hint=error.hint) from error
    host = registry_images.ecr_host(parsed.registry)
    if host is None:
        raise SettingsError(
            f"{where} is {text!r}, which SageMaker can't pull: it is in no ECR registry",
            hint=f"byoc push {text}, and take the name that it prints",
        )
    if region and host.region != region:
        raise SettingsError(
            f"{where} is in {host.region}, and the launch in {region}",
            hint="SageMaker pulls from its own region only: push it there, or set region",
        )
    return parsed, host


def request_of(parsed: registry_images.Reference, host: registry_images.EcrHost) -> dict[str, Any]:
    """Return the parameters of DescribeImages."""
    wanted = {"imageDigest": parsed.digest} if parsed.digest else {"imageTag": parsed.target}
    return {
        "registryId": host.account,
        "repositoryName": parsed.repository,
        "imageIds": [wanted],
    }


def is_private(shared: Shared) -> bool:
    """Return whether the image is in a private registry of the user's VPC, for SageMaker to pull.

    Source: SageMaker developer guide, your-algorithms-containers-inference-private and
    docker-containers-adapt-your-own-private-registry.
    """
    container = _inner(shared.request.get("CreateModel"), "PrimaryContainer")
    training = _inner(shared.request.get("CreateTrainingJob"), "AlgorithmSpecification")
    modes = (
        _inner(container, "ImageConfig").get("RepositoryAccessMode"),
        _inner(training, "TrainingImageConfig").get("TrainingRepositoryAccessMode"),
    )
    return "Vpc" in modes


def _inner(value: object, key: str) -> Mapping[str, Any]:
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def pin(shared: Shared, text: str, caller: Caller) -> Pinned:
    """Return the image that `text` names now.

    Raise SettingsError if SageMaker can't pull it or can't run it.
    """
    if is_private(shared):
        return Pinned(text, registry_images.parse(text).digest)
    where = f"{shared.where}: image"
    parsed, host = in_ecr(shared, text, caller.region)
    asked = request_of(parsed, host)
    repository = f"{parsed.registry}/{parsed.repository}"
    try:
        digest, kind, artifact = _described(asked, caller)
    except ByocError as error:
        is_refused = isinstance(error, RefusedError)
        missing = isinstance(error, RefusedError) and error.code in _MISSING
        if parsed.digest and (missing or not is_refused):
            return Pinned(f"{repository}@{parsed.digest}", parsed.digest)  # SageMaker may know it
        if missing:
            what = f"{where}: {text} is not in ECR"
            raise SettingsError(what, hint="Push it: byoc push IMAGE") from error
        if not parsed.digest:
            raise
        digest, kind, artifact = (
            parsed.digest,
            "",
            "",
        )  # a user who may pull it may lack permission to describe it
    stored_kind, manifest = _manifest(asked, digest, caller)
    config = _configuration(asked, manifest, caller)
    stored = _Stored(kind or stored_kind, manifest or {"config": {"mediaType": artifact}}, config)
    _check(f"{where}: {text}", stored, instance_types(shared), repository)
    return Pinned(f"{repository}@{digest}", digest, cuda_of(config) if config else None)


@dataclass(frozen=True, slots=True)
class _Stored:
    """What could be read of an image; empty is unknown."""

    kind: str
    manifest: dict[str, Any]
    config: dict[str, Any]


def _check(image: str, stored: _Stored, types: Sequence[str], repository: str) -> None:
    """Raise SettingsError if SageMaker refuses the image, or the instances can't run it."""
    machine = registry_images.machine_of(types[0])
    found = str(stored.config.get("architecture", ""))
    fault = None
    if stored.kind:
        fault = registry_images.storage_fault(stored.kind, stored.manifest, machine)
    fault = fault or registry_images.machine_fault(found, types)
    if fault is None:
        return
    hint = fault.hint
    if member := registry_images.member_for(stored.manifest, machine):
        hint += f'. Or name its image for {machine}: image = "{repository}@{member}"'
    raise SettingsError(f"{image} {fault.what}", hint=hint)


def _described(asked: dict[str, Any], caller: Caller) -> tuple[str, str, str]:
    """Return the image's digest, and the media types of its manifest and its configuration."""
    call = Call("ecr", "DescribeImages", asked)
    detail = only(call, caller.call(call), "imageDetails")
    kinds = (str(detail.get(f"{part}MediaType", "")) for part in ("imageManifest", "artifact"))
    manifest, artifact = kinds
    return str(detail["imageDigest"]), manifest, artifact


def _manifest(asked: dict[str, Any], digest: str, caller: Caller) -> tuple[str, dict[str, Any]]:
    """Return media type and manifest of the image, empty if they can't be read."""
    place = {key: asked[key] for key in ("registryId", "repositoryName")}
    with suppress(ByocError, OSError, ValueError, LookupError, TypeError):
        ids = [{"imageDigest": digest}]
        found = caller.call(Call("ecr", "BatchGetImage", {**place, "imageIds": ids}))
        (image,) = found["images"]
        manifest = json.loads(image["imageManifest"])
        if isinstance(manifest, dict):
            stated = image.get("imageManifestMediaType") or manifest.get("mediaType") or ""
            return str(stated), manifest
    return "", {}


def _configuration(
    asked: dict[str, Any], manifest: dict[str, Any], caller: Caller
) -> dict[str, Any]:
    """Return the image's configuration, empty if it can't be read."""
    place = {key: asked[key] for key in ("registryId", "repositoryName")}
    with suppress(ByocError, OSError, ValueError, LookupError, TypeError):
        layer = {**place, "layerDigest": manifest["config"]["digest"]}
        return _read(caller.call(Call("ecr", "GetDownloadUrlForLayer", layer))["downloadUrl"])
    return {}


def _read(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310 - ECR's own URL
        document = json.loads(answer.read(_MOST_CONFIG))
    return as_object(document)


# ── the host image ──

KEY = "ami-version"
_LATER_FAMILIES = 535
"""The oldest driver of a family that AWS's page does not list: it has all with an older one."""
_BY_DEFAULT = f"the driver is what {{}} has by default; {KEY} names another"
_UNREAD = (
    "the image's CUDA can't be read (ecr:BatchGetImage, ecr:GetDownloadUrlForLayer): " + _BY_DEFAULT
)
_UNSTATED = f"the image doesn't state its CUDA (label {CUDA_LABEL.value}): " + _BY_DEFAULT


@dataclass(frozen=True, slots=True)
class Choice:
    name: str
    """The API's InferenceAmiVersion; empty to leave it out."""
    note: str
    """A sentence for the plan; may be empty."""


def cuda_of(config: Mapping[str, Any]) -> str:
    """Return the CUDA version that an image's configuration states, "" if it states none.

    Ours has a label; NVIDIA's bases, and what is built on them, have a variable.
    """
    own = as_object(config.get("config"))
    stated = [str(as_object(own.get("Labels")).get(CUDA_LABEL.value, ""))]
    for variable in as_list(own.get("Env")):
        name, _, value = str(variable).partition("=")
        if name == "CUDA_VERSION":
            stated.append(value)
    found = (re.match(r"\d{1,3}\.\d{1,3}(?!\d)", text) for text in stated)
    return next((each[0] for each in found if each), "")


def choose(where: str, chosen: str, cuda: str | None, instance_type: str) -> Choice:
    """`chosen` is what the user named, and wins. Raise SettingsError if no host can run it.

    `cuda` is empty for an image that states none, and None for one that can't be read.
    """
    family = gpu_family(instance_type)
    if not cuda or not family:
        note = _UNREAD if cuda is None else _UNSTATED
        return Choice(chosen, "" if chosen or not family else note.format(instance_type))
    major = int(cuda.partition(".")[0])
    newest = NEWEST_CUDA.value.get(family, major)
    if major > newest:
        raise SettingsError(
            f"{where}: image was built for CUDA {cuda}, which has no code for the GPUs of "
            f"{instance_type}",
            hint=f"Use a build for CUDA {newest}, or another instance type",
        )
    images = [host for host in HOST_IMAGES.value if "inference" in host.name]
    able = [host for host in images if is_enough(host.driver, major)]
    if chosen:
        return Choice(chosen, _warning(chosen, images, able, cuda))
    if not able:
        raise SettingsError(
            f"{where}: image was built for CUDA {cuda}, and no host image of SageMaker's for "
            f"{instance_type} has a driver for it",
            hint=f"Build it with --build-arg TORCH=cuda12, or name a newer host image: {KEY}",
        )
    default = DEFAULT_DRIVERS.value.get(family)
    if is_enough(default or _LATER_FAMILIES, major):
        return Choice("", "")
    # The newest driver for the build's own CUDA; a later major version if there is no other.
    closest = [host for host in able if not is_enough(host.driver, major + 1)] or able
    best = max(closest, key=lambda host: host.driver)
    has = f"driver {default}" if default else "an older driver"
    return Choice(
        best.name,
        f"InferenceAmiVersion {best.name}, with driver {best.driver}: the image was built for CUDA "
        f"{cuda}, and {instance_type} has {has} by default",
    )


def _warning(chosen: str, images: list[HostImage], able: list[HostImage], cuda: str) -> str:
    for host in images:
        if host.name == chosen and host not in able:
            return (
                f"warning: the image was built for CUDA {cuda}, which the driver {host.driver} of "
                f"{chosen} can't run"
            )
    return ""
