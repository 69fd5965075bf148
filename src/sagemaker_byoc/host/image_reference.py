"""An image's name taken apart, one way for everything that reads one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.contract.facts import API_MODEL, Fact

NAME_LIMIT = Fact(255, "characters", f"{API_MODEL}: sagemaker.ContainerImage.max", "2026-11-23")
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
    """Raise RequestError for a name that no registry takes."""
    if len(text) > NAME_LIMIT.value:
        raise RequestError(
            f"the image name has {len(text)} characters; SageMaker takes {NAME_LIMIT.value}",
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
