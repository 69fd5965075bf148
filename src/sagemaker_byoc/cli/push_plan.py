"""A push: what `byoc push` is asked to do, and the plan of its steps, to be printed or run.

The request is checked before anything is done. The plan has the steps in ECR around those of the
copy.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from sagemaker_byoc.cloud import ecr
from sagemaker_byoc.cloud.session import IDENTITY, AwsError, Cloud, resolve_account, resolve_region
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.host.registry_images import (
    TAG,
    EcrHost,
    Reference,
    ecr_host,
    is_loopback,
    parse,
)
from sagemaker_byoc.images.archive import read_archive
from sagemaker_byoc.images.lookup import REMOTE, archive_path
from sagemaker_byoc.images.model import DOCKER_MANIFEST, Image, RegistryError
from sagemaker_byoc.images.push.copying import UNKNOWN_REGISTRY, Push, Step
from sagemaker_byoc.images.push.programs import Screen
from sagemaker_byoc.images.push.steps import source_steps, transfer_steps
from sagemaker_byoc.images.registry import Login, docker_login

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
_ACCOUNT = "ACCOUNT"
"""Placeholder in a plan for the account, which only AWS knows."""


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

    def wanted(self, account: str) -> ecr.WantedRepository:
        """Return the repository, as the plan shows it and the push makes it."""
        return ecr.WantedRepository(
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
    if tag and not TAG.fullmatch(tag):
        raise RequestError(
            f"{tag!r} is not a tag", hint="Give --tag up to 128 letters, digits and . _ - in them"
        )
    parse(f"{registry or 'localhost'}/{repository}")
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
        return parse(image.removeprefix(REMOTE))
    return parse(archived.named_as) if archived.named_as else None


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


def _ecr_named(arguments: argparse.Namespace, own: Reference | None) -> EcrHost | None:
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


# ── the plan ──


def plan(request: PushRequest, screen: Screen) -> tuple[Push, list[Step]]:
    """Return the push and all its steps.

    Nothing is asked of AWS or a registry; the engine is asked what it is.
    """
    push = Push(
        source=request.image,
        platform=request.platform,
        destination=Reference(request.registry, request.repository, request.tag),
        find_login=login_of,
        screen=screen,
        plain=bool(request.registry) and request.insecure,
        insecure=request.insecure,
        image=request.archived,
    )
    if request.registry:
        return push, [*_source_login(push), *source_steps(push), *transfer_steps(push)]
    region = resolve_region(request.region)
    push.destination = replace(push.destination, registry=_ecr_registry(request, region))
    cloud = Cloud(region)
    account = resolve_account(cloud, request.account) if request.account else _ACCOUNT
    wanted = request.wanted(account)
    target = _EcrTarget(request, push, cloud, ecr.Ensuring(cloud, wanted))
    return push, target.steps()


def _ecr_registry(request: PushRequest, region: str) -> str:
    """Return the registry's name as far as it is known before ECR says it."""
    if _endpoints():
        return UNKNOWN_REGISTRY
    suffix = ".cn" if region.startswith("cn-") else ""
    return f"{request.account or _ACCOUNT}.dkr.ecr.{region}.amazonaws.com{suffix}"


@dataclass(slots=True)
class _EcrTarget:
    """ECR around one push: the repository before it, and what ECR says of the image after it."""

    request: PushRequest
    push: Push
    cloud: Cloud
    ensuring: ecr.Ensuring

    def steps(self) -> list[Step]:
        region = self.cloud.region
        steps = []
        if self.request.account is None:
            steps.append(Step(IDENTITY.command(region), self._identify, "the account"))
        why = "a login, kept out of docker's configuration"
        steps.append(Step(ecr.LOGIN.command(region), self._log_in, why))
        steps += [*_source_login(self.push), *source_steps(self.push)]
        steps += [Step(call.command(region), act, why) for call, why, act in self.ensuring.steps()]
        steps[-1] = _then(steps[-1], self._set_destination)
        steps += transfer_steps(self.push)
        asked = ecr.describe_image(self.ensuring.wanted, "sha256:DIGEST")
        return [*steps, Step(asked.command(region), self._confirm, "its media type")]

    def _identify(self) -> None:
        account = resolve_account(self.cloud, self.request.account)
        self.ensuring.wanted = self.request.wanted(account)

    def _log_in(self) -> None:
        authorization = ecr.log_in(self.cloud)
        own_host = authorization.endpoint.partition("://")[2]
        login = Login(authorization.user, authorization.password)
        self.push.find_login = lambda host: login if host == own_host else login_of(host)
        self.push.plain = is_plain(authorization.endpoint, insecure=self.request.insecure)

    def _set_destination(self) -> None:
        """Send the image to the repository that ECR has now."""
        repository, wanted = self.ensuring.repository, self.ensuring.wanted
        place = f"account {wanted.account}, region {self.cloud.region}"
        self.push.screen.note(f"{place}, repository {repository.uri}")
        for done in repository.done:
            self.push.screen.note(f"repository {wanted.name}: {done}")
        registry = repository.uri.partition("/")[0]
        self.push.destination = replace(self.push.destination, registry=registry)
        self.push.immutable = repository.mutability == ecr.IMMUTABLE

    def _confirm(self) -> None:
        """Compare with what ECR says of the image, which SageMaker relies on."""
        pushed = self.push.pushed
        try:
            found = ecr.stored_image(self.cloud, self.ensuring.wanted, pushed.digest)
        except AwsError as error:
            if "AccessDenied" in error.code:  # may push, not describe: the registry was asked
                self.push.screen.note(f"not confirmed with ecr DescribeImages: {error.code}")
                return
            raise
        if found.media_type not in {DOCKER_MANIFEST, ""}:
            raise RegistryError(
                f"ECR keeps {pushed} as {found.media_type}, which SageMaker refuses",
                hint="Push it to a new repository, without pull-through or replication rules",
            )


def _source_login(push: Push) -> list[Step]:
    """Return the login for an image that is in ECR itself, as AWS's own are."""
    if not push.source.startswith(REMOTE):
        return []
    registry = parse(push.source.removeprefix(REMOTE)).registry
    host = ecr_host(registry)
    if host is None:
        return []
    why = f"a login for account {host.account}"
    return [Step(ecr.LOGIN.command(host.region), lambda: _log_in(push, registry), why)]


def _log_in(push: Push, registry: str) -> None:
    push.login(registry)


def _then(step: Step, act: Callable[[], None]) -> Step:
    def run() -> None:
        step.run()
        act()

    return replace(step, run=run)


def is_plain(endpoint: str, *, insecure: bool) -> bool:
    """Return whether a remote registry is used without TLS. Raise RequestError if not allowed."""
    scheme, _, rest = endpoint.partition("://")
    host = urlsplit(endpoint).hostname or rest
    if scheme != "http" or is_loopback(host):
        return False
    if not insecure:
        raise RequestError(
            f"the registry {endpoint} has no TLS: the login would cross the network readable",
            hint="Give it TLS, or add --insecure in a network that you trust",
        )
    return True


def login_of(registry: str) -> Login | None:
    """Return the login that ECR gives for any account's registry, such as AWS's own images.

    For another registry, return docker's.
    """
    host = ecr_host(registry)
    if host is None or _endpoints():
        return docker_login(registry)
    authorization = ecr.log_in(Cloud(host.region))
    return Login(authorization.user, authorization.password)
