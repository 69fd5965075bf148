"""What `byoc push` is asked to do, checked before anything is done."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from sagemaker_byoc.cloud.ecr import WantedRepository
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.host import image_reference
from sagemaker_byoc.host.image_reference import Reference, ecr_host
from sagemaker_byoc.images.archive import read_archive
from sagemaker_byoc.images.lookup import REMOTE, archive_path
from sagemaker_byoc.images.model import Image

_FOR_ECR = {
    "region": "--region",
    "account": "--account",
    "mutability": "--immutable/--mutable",
    "scan": "--scan",
    "lifecycle": "--lifecycle",
}
_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d{1,5})?|\[[0-9a-fA-F:]+\](:\d{1,5})?")
_ECR_NAME = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
"""The service model's RepositoryName, 2 to 256 characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushRequest:
    image: str
    archived: Image | None
    """What the documents of an archive say."""
    repository: str
    tag: str
    """Empty for one made from the content."""
    platform: str
    region: str | None
    account: str | None
    mutability: str | None
    scan: bool | None
    lifecycle: int | None
    registry: str
    """Empty for ECR."""
    insecure: bool

    def wanted(self, account: str) -> WantedRepository:
        """Return the repository, as the plan shows it and the push makes it."""
        return WantedRepository(
            name=self.repository,
            account=account,
            mutability=self.mutability,
            scan_on_push=self.scan,
            untagged_kept=self.lifecycle,
        )


def parse_request(arguments: argparse.Namespace) -> PushRequest:
    """Raise RequestError for misuse, ImageError for an archive that can't be read."""
    registry = _registry(arguments)
    archived = _archived(arguments)
    own = _own_name(arguments.image, archived)
    named = _ecr_named(arguments, own) if not registry else None
    repository = arguments.repository or (own.repository if own else "")
    if not repository:
        raise RequestError(
            f"{arguments.image} doesn't say what it is called", hint="Add --repository NAME"
        )
    if not registry and not (2 <= len(repository) <= 256 and _ECR_NAME.fullmatch(repository)):
        raise RequestError(
            f"{repository!r} is not a name of an ECR repository",
            hint="Give --repository lower-case letters, digits and . _ - / between them",
        )
    tag = arguments.tag or (own.tag if own else "")
    if tag and not image_reference.TAG.fullmatch(tag):
        raise RequestError(
            f"{tag!r} is not a tag", hint="Give --tag up to 128 letters, digits and . _ - in them"
        )
    image_reference.parse(f"{registry or 'localhost'}/{repository}")
    return PushRequest(
        image=arguments.image,
        archived=archived,
        repository=repository,
        tag=tag,
        platform=arguments.platform,
        region=arguments.region or (named.region if named else None),
        account=arguments.account or (named.account if named else None),
        mutability=arguments.mutability,
        scan=arguments.scan,
        lifecycle=arguments.lifecycle,
        registry=registry,
        insecure=arguments.insecure,
    )


def _archived(arguments: argparse.Namespace) -> Image | None:
    path = None if arguments.image.startswith(REMOTE) else archive_path(arguments.image)
    if path is None:
        return None
    return read_archive(path, layers=False, platform=arguments.platform)


def _own_name(image: str, archived: Image | None) -> Reference | None:
    """Return the name that the image has where it is; None for an archive that gives it none."""
    if archived is None:
        return image_reference.parse(image.removeprefix(REMOTE))
    return image_reference.parse(archived.named_as) if archived.named_as else None


def _registry(arguments: argparse.Namespace) -> str:
    registry = arguments.registry
    if registry is None:
        return ""
    for name, flag in _FOR_ECR.items():
        if getattr(arguments, name) is not None:
            raise RequestError(
                f"{flag} is for ECR, and --registry {registry} is not",
                hint=f"Leave out {flag}, or --registry",
            )
    if not _HOST.fullmatch(registry):
        raise RequestError(
            f"--registry {registry!r} is not a registry", hint="Write HOST or HOST:PORT"
        )
    if ecr_host(registry):
        raise RequestError(
            f"--registry {registry} is ECR",
            hint="Use --account and --region instead: ECR wants a login and a repository",
        )
    return str(registry)


def _ecr_named(
    arguments: argparse.Namespace, own: Reference | None
) -> image_reference.EcrHost | None:
    """Return the ECR registry that an engine's image is named for.

    Raise RequestError if its name says another registry, and no flag says ECR.
    """
    if own is None or not own.registry or arguments.image.startswith(REMOTE):
        return None
    found = ecr_host(own.registry)
    if found is None and arguments.repository is None and own.registry not in _endpoints():
        raise RequestError(
            f"{arguments.image} is named for {own.registry}, and this push would go to ECR",
            hint=f"Add --registry {own.registry}, or --repository NAME for ECR",
        )
    return found


def _endpoints() -> set[str]:
    """Return the hosts that stand in for AWS: the local region's ECR is its own registry."""
    urls = (os.environ.get(name) for name in ("AWS_ENDPOINT_URL_ECR", "AWS_ENDPOINT_URL"))
    return {urlsplit(url).netloc for url in urls if url}
