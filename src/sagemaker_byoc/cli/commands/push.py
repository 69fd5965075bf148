"""`byoc push`: an image into ECR or another registry, as SageMaker takes it, and verified."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from sagemaker_byoc.cli import push_plan
from sagemaker_byoc.cli.push_progress import PushProgress
from sagemaker_byoc.cli.push_request import PushRequest, parse_request
from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.cloud import ecr
from sagemaker_byoc.cloud.session import AwsError, Cloud, resolve_account, resolve_region
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.host.image_reference import ecr_host, is_loopback
from sagemaker_byoc.images.credentials import Login, docker_login
from sagemaker_byoc.images.errors import RegistryError
from sagemaker_byoc.images.model import DOCKER_MANIFEST
from sagemaker_byoc.images.push import sources
from sagemaker_byoc.images.push.known import KnownLayers, cache_folder
from sagemaker_byoc.images.push.patience import Patience
from sagemaker_byoc.images.push.push import Destination, Pushed, push

HELP = "Push an image to ECR, or another registry, in the form that SageMaker takes; verified."
PLATFORMS = ("linux/amd64", "linux/arm64")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "image",
        metavar="IMAGE",
        help="of the engine; an archive or OCI layout; or docker://HOST/NAME:TAG in a registry",
    )
    parser.add_argument("--repository", metavar="NAME", help="default: the image's own")
    parser.add_argument(
        "-t", "--tag", metavar="TAG", help="default: the image's own, or one made from its content"
    )
    parser.add_argument(
        "--platform",
        choices=PLATFORMS,
        default=PLATFORMS[0],
        help="of the image; arm64 for Graviton hosts (default: %(default)s)",
    )
    aws = parser.add_argument_group("for ECR; AWS_ENDPOINT_URL names another than AWS's")
    aws.add_argument("--region", help="default: AWS_REGION, AWS_DEFAULT_REGION, or the profile's")
    aws.add_argument("--account", metavar="ID", help="default: that of the credentials")
    tags = aws.add_mutually_exclusive_group()
    tags.add_argument(
        "--immutable",
        dest="mutability",
        action="store_const",
        const=ecr.IMMUTABLE,
        help="tags can't be moved",
    )
    tags.add_argument(
        "--mutable",
        dest="mutability",
        action="store_const",
        const=ecr.MUTABLE,
        help="tags can be moved (the default of a new repository)",
    )
    aws.add_argument(
        "--scan",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="have ECR look for known weaknesses at each push",
    )
    aws.add_argument(
        "--lifecycle",
        metavar="KEEP",
        type=_kept,
        help="have ECR keep only the last KEEP untagged images",
    )
    other = parser.add_argument_group("for another registry")
    other.add_argument(
        "--registry", metavar="HOST[:PORT]", help="with the login that docker has for it, if any"
    )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="without TLS, to a registry that is not on this machine",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print each call and command, and do none"
    )
    parser.add_argument("--json", action="store_true", help="the result as JSON")


def _kept(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of images; give 1 to 10000 untagged images to keep"
        )
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    request = parse_request(arguments)
    if arguments.dry_run:
        _print_plan(push_plan.plan(request, _region(request)), as_json=arguments.json)
        return 0
    progress = PushProgress()
    patience = Patience(progress.note)
    target = _plain_target(request) if request.registry else _ecr_target(request, progress.note)
    known = KnownLayers(cache_folder())
    with (
        progress,
        sources.opened(
            request.image, request.platform, target.log_in, patience, progress.note
        ) as content,
    ):
        content.check(request.platform)  # before a repository is made for it
        pushed = push(content, target.prepare(), progress, patience, known)
    target.confirm(pushed)
    if arguments.json:
        console.document(_document(pushed))
    else:
        console.result(str(pushed.reference))
    return 0


def _region(request: PushRequest) -> str:
    return "" if request.registry else resolve_region(request.region)


def _print_plan(steps: list[push_plan.Step], *, as_json: bool) -> None:
    if as_json:
        console.document({"steps": [{"do": step.do, "why": step.why} for step in steps]})
        return
    for step in steps:
        console.result(f"{step.do}  # {step.why}" if step.why else step.do)


@dataclass(frozen=True, slots=True)
class _Target:
    prepare: Callable[[], Destination]
    log_in: sources.FindLogin
    confirm: Callable[[Pushed], None]


def _plain_target(request: PushRequest) -> _Target:
    destination = Destination(
        registry=request.registry,
        repository=request.repository,
        tag=request.tag,
        login=docker_login(request.registry),
        plain=request.insecure,
        platform=request.platform,
    )
    return _Target(lambda: destination, _login_of, lambda _: None)


def _ecr_target(request: PushRequest, note: Callable[[str], None]) -> _Target:
    """With the repository as it is wanted, and a login for it, in memory only."""
    cloud = Cloud(resolve_region(request.region))
    account = resolve_account(cloud, request.account)
    wanted = request.wanted(account)
    authorization = ecr.log_in(cloud)
    login = Login(authorization.user, authorization.password)
    own_host = authorization.endpoint.partition("://")[2]

    def prepare() -> Destination:
        repository = ecr.ensure(cloud, wanted)
        note(f"account {account}, region {cloud.region}, repository {repository.uri}")
        for done in repository.done:
            note(f"repository {request.repository}: {done}")
        return Destination(
            registry=repository.uri.partition("/")[0],
            repository=request.repository,
            tag=request.tag,
            login=login,
            plain=_is_plain(authorization.endpoint, insecure=request.insecure),
            immutable=repository.mutability == ecr.IMMUTABLE,
            platform=request.platform,
        )

    def confirm(pushed: Pushed) -> None:
        _confirm(cloud, wanted, pushed, note)

    def log_in(registry: str) -> Login | None:
        return login if registry == own_host else _login_of(registry)

    return _Target(prepare, log_in, confirm)


def _is_plain(endpoint: str, *, insecure: bool) -> bool:
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


def _login_of(registry: str) -> Login | None:
    """For another account's ECR registry, as that of AWS's own images, the credentials' login;
    for any other what docker knows."""
    host = ecr_host(registry)
    if host is None or os.environ.get("AWS_ENDPOINT_URL_ECR") or os.environ.get("AWS_ENDPOINT_URL"):
        return docker_login(registry)
    authorization = ecr.log_in(Cloud(host.region))
    return Login(authorization.user, authorization.password)


def _confirm(
    cloud: Cloud, wanted: ecr.WantedRepository, pushed: Pushed, note: Callable[[str], None]
) -> None:
    """What ECR says of the image, which is what SageMaker goes by."""
    digest = pushed.reference.digest
    try:
        found = ecr.stored_image(cloud, wanted, digest)
    except AwsError as error:
        if "AccessDenied" in error.code:  # may push and not look: the registry was asked already
            note(f"not confirmed with ecr DescribeImages: {error.code}")
            return
        raise
    if found.media_type not in {DOCKER_MANIFEST, ""}:
        raise RegistryError(
            f"ECR keeps {pushed.reference} as {found.media_type}, which SageMaker refuses",
            hint="Push it to a new repository, without pull-through or replication rules",
        )


def _document(pushed: Pushed) -> dict[str, object]:
    return {
        "image": str(pushed.reference),
        "registry": pushed.reference.registry,
        "repository": pushed.reference.repository,
        "tag": pushed.tag,
        "digest": pushed.reference.digest,
        "media_type": pushed.verified.media_type,
        "platform": pushed.verified.platform,
        "size_bytes": pushed.verified.size_bytes,
        "converted_from": pushed.converted_from or None,
        "already_there": pushed.already,
        "layers": [
            {"digest": layer.digest, "size": layer.size, "how": layer.how.value}
            for layer in pushed.layers
        ],
    }
