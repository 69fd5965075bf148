"""The plan of a push: the steps in ECR around the steps of the copy, to be printed or run."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from sagemaker_byoc.cli.push_request import PushRequest
from sagemaker_byoc.cloud import ecr
from sagemaker_byoc.cloud.session import IDENTITY, AwsError, Cloud, resolve_account, resolve_region
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.host.image_reference import Reference, ecr_host, is_loopback, parse
from sagemaker_byoc.images.lookup import REMOTE
from sagemaker_byoc.images.model import DOCKER_MANIFEST, RegistryError
from sagemaker_byoc.images.push.copying import UNKNOWN_REGISTRY, Push, Step
from sagemaker_byoc.images.push.programs import Screen
from sagemaker_byoc.images.push.steps import source_steps, transfer_steps
from sagemaker_byoc.images.registry import Login, docker_login

_ACCOUNT = "ACCOUNT"
"""Stands in a plan for what only AWS knows."""


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
    if os.environ.get("AWS_ENDPOINT_URL_ECR") or os.environ.get("AWS_ENDPOINT_URL"):
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
        steps[-1] = _then(steps[-1], self._aim)
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

    def _aim(self) -> None:
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
        """Compare with what ECR says of the image, which is what SageMaker goes by."""
        pushed = self.push.pushed
        try:
            found = ecr.stored_image(self.cloud, self.ensuring.wanted, pushed.digest)
        except AwsError as error:
            if "AccessDenied" in error.code:  # may push and not look: the registry was asked
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
    """Tell whether a registry elsewhere is used without TLS. Raise RequestError if not allowed."""
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
    if host is None or os.environ.get("AWS_ENDPOINT_URL_ECR") or os.environ.get("AWS_ENDPOINT_URL"):
        return docker_login(registry)
    authorization = ecr.log_in(Cloud(host.region))
    return Login(authorization.user, authorization.password)
