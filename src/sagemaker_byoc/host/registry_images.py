"""Images of registries: a name taken apart, and whether SageMaker can run what is stored there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.contract.facts import IMAGE_NAME, Fact
from sagemaker_byoc.contract.files import as_list, as_object, as_string

DEFAULT_TAG = "latest"
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_REPOSITORY = re.compile(r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ECR = re.compile(
    r"(?P<account>\d{12})\.dkr[.-]ecr\.(?P<region>[a-z0-9-]+)\.(amazonaws\.com|on\.aws)(\.cn)?"
)
_LOOPBACK = re.compile(r"127(\.\d{1,3}){3}")


@dataclass(frozen=True, slots=True)
class Reference:
    """`registry` is empty for a name that only the engine knows; `tag` and `digest` may be."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def target(self) -> str:
        """The tag or digest that a registry is asked for."""
        return self.digest or self.tag or DEFAULT_TAG

    def __str__(self) -> str:
        start = f"{self.registry}/" if self.registry else ""
        tag = f":{self.tag}" if self.tag else ""
        return f"{start}{self.repository}{tag}{'@' if self.digest else ''}{self.digest}"

    @property
    def is_local(self) -> bool:
        """Whether the registry is this machine, which docker speaks to without TLS."""
        return is_loopback(self.registry.rpartition(":")[0] or self.registry)


@dataclass(frozen=True, slots=True)
class EcrHost:
    account: str
    region: str


def parse(text: str) -> Reference:
    """Return the parts of an image's name. Raise RequestError if no registry accepts it."""
    if len(text) > IMAGE_NAME.value:
        raise RequestError(
            f"the image name has {len(text)} characters; SageMaker takes {IMAGE_NAME.value}",
            hint="Choose a shorter repository or tag",
        )
    rest, at, digest = text.partition("@")
    registry, slash, path = rest.partition("/")
    # As docker decides whether the first part is a registry.
    if not slash or not ("." in registry or ":" in registry or registry == "localhost"):
        registry, path = "", rest
    repository, colon, tag = path.partition(":")
    wrong = (
        not _REPOSITORY.fullmatch(repository)
        or (colon and not TAG.fullmatch(tag))
        or (at and not _DIGEST.fullmatch(digest))
    )
    if wrong:
        raise RequestError(
            f"{text!r} is not an image name",
            hint="Write [HOST/]repository[:tag][@sha256:…], lower case",
        )
    return Reference(registry, repository, tag, digest)


def ecr_host(registry: str) -> EcrHost | None:
    """Return account and region of an ECR registry's name; None for any other."""
    match = _ECR.fullmatch(registry)
    return EcrHost(match["account"], match["region"]) if match else None


def is_loopback(host: str) -> bool:
    return host in {"localhost", "::1", "[::1]"} or bool(_LOOPBACK.fullmatch(host))


DOCKER_MANIFEST = Fact(
    "application/vnd.docker.distribution.manifest.v2+json",
    "media type",
    "the service's refusals in github.com/aws/amazon-sagemaker-feedback/issues/180 (2025-04, open) "
    "and github.com/mlflow/mlflow/issues/13834",
    "2026-11-29",
    "reported of CreateModel, for OCI manifests and indexes; not reported of CreateTrainingJob, "
    "nor that it takes them: we refuse them there too",
)
AMD64, ARM64 = "amd64", "arm64"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
INDEXES = frozenset({DOCKER_INDEX, OCI_INDEX})
MANIFESTS = frozenset({DOCKER_MANIFEST.value, OCI_MANIFEST})
_GRAVITON = re.compile(r"ml\.([a-z]+\d+g[a-z]*|p6e-gb\d+)\.")
"""Families of arm64 processors, by AWS's naming: the letter g after the generation."""
_MOST_NAMED = 8


def machine_of(instance_type: str) -> str:
    """Return the architecture of an instance type's processors."""
    return ARM64 if _GRAVITON.match(instance_type) else AMD64


@dataclass(frozen=True, slots=True)
class Fault:
    what: str
    """Continues the sentence "The image …"."""
    hint: str


def storage_fault(media_type: str, manifest: Mapping[str, Any], machine: str = "") -> Fault | None:
    """Return why SageMaker refuses how an image is stored; `manifest` may be empty."""
    hint = (
        "`byoc push` stores it as SageMaker takes it; so do docker buildx build --platform "
        f"linux/{machine or AMD64} --provenance=false --output type=registry,oci-mediatypes=false, "
        "and skopeo copy --format v2s2"
    )
    if media_type in INDEXES:
        what = f"is stored as {media_type}, an index{_members(manifest)}, which SageMaker refuses"
        return Fault(what, hint)
    config = as_string(as_object(manifest.get("config")).get("mediaType"))
    if config and config not in {DOCKER_CONFIG, OCI_CONFIG}:
        what = f"is not an image but {config}"
        return Fault(what, "Name an image; its repository holds other things too")
    if media_type != DOCKER_MANIFEST.value:
        return Fault(f"is stored as {media_type}, which SageMaker refuses", hint)
    layers = manifest.get("layers")
    if any("zstd" in as_string(as_object(layer).get("mediaType")) for layer in as_list(layers)):
        what = "has layers packed with zstd, which Docker's media types don't have"
        return Fault(what, "Build it with compression=gzip,force-compression=true in --output")
    return None


def machine_fault(found: str, instance_types: Iterable[str]) -> Fault | None:
    """Return why instances can't run an image for the architecture `found`.

    A type is empty for a serverless endpoint; `local` and the like are this machine.
    """
    for instance_type in instance_types:
        wanted = machine_of(instance_type)
        if found and found != wanted and not instance_type.startswith("local"):
            kind = instance_type or "serverless"
            return Fault(
                f"is built for {found}, and the instances are {wanted} ({kind})",
                f"Build it with docker buildx build --platform linux/{wanted}, or choose instances "
                f"for {found}",
            )
    return None


def member_for(manifest: Mapping[str, Any], machine: str) -> str:
    """Return the digest of the image in an index that SageMaker would take, "" if there is none."""
    for entry in _entries(manifest):
        platform = entry.get("platform")
        fits = isinstance(platform, dict) and platform.get("architecture") == machine
        if fits and entry.get("mediaType") == DOCKER_MANIFEST.value:
            return as_string(entry.get("digest"))
    return ""


def _members(manifest: Mapping[str, Any]) -> str:
    """Return ` of linux/amd64, linux/arm64 and attestations`."""
    named: dict[str, None] = {}
    for entry in _entries(manifest):
        notes = entry.get("annotations")
        platform = entry.get("platform")
        if isinstance(notes, dict) and "vnd.docker.reference.type" in notes:
            named["attestations"] = None
        elif isinstance(platform, dict):
            named[f"{platform.get('os')}/{platform.get('architecture')}"] = None
    if not named:
        return ""
    shown = [*named][:_MOST_NAMED]
    return f" of {' and '.join(filter(None, (', '.join(shown[:-1]), shown[-1])))}"


def _entries(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [each for each in as_list(manifest.get("manifests")) if isinstance(each, dict)]
