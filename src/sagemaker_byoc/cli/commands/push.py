"""`byoc push`: push an image to ECR or another registry as SageMaker takes it, and verify it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from sagemaker_byoc.cli import push_plan
from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.cloud import ecr
from sagemaker_byoc.images import scratch
from sagemaker_byoc.images.push.copying import Push, Step, run_steps
from sagemaker_byoc.images.push.programs import How

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
        help="have ECR scan each pushed image for vulnerabilities",
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
            f"{text!r} is not a number of images; give 1 to 10000 untagged images to keep"
        )
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    request = push_plan.parse_request(arguments)
    screen = _Screen(is_terminal=console.is_interactive() and not arguments.json)
    if arguments.dry_run:
        _, planned = push_plan.plan(request, screen)
        _print_plan(planned, as_json=arguments.json)
        return 0
    scratch.sweep_folders()
    push, planned = push_plan.plan(request, screen)
    with scratch.scratch("push") as push.folder, push.undo:
        run_steps(planned)
    if arguments.json:
        console.document(_document(push))
    else:
        console.result(str(push.pushed))
    return 0


def _print_plan(planned: list[Step], *, as_json: bool) -> None:
    if as_json:
        console.document({"steps": [{"do": step.do, "why": step.why} for step in planned]})
        return
    for step in planned:
        console.result(f"{step.do}  # {step.why}" if step.why else step.do)


@dataclass(frozen=True, slots=True)
class _Screen:
    is_terminal: bool

    def note(self, text: str) -> None:
        console.step(text)

    def layer(self, number: int, name: str, how: How) -> None:
        console.detail(f"layer {number}  {name}  {how.value}")


def _document(push: Push) -> dict[str, object]:
    assert push.manifest is not None
    assert push.config is not None
    layers = push.pushed_layers
    return {
        "image": str(push.pushed),
        "registry": push.destination.registry,
        "repository": push.destination.repository,
        "tag": push.destination.tag,
        "digest": push.pushed.digest,
        "media_type": push.manifest.media_type,
        "platform": push.config.platform,
        "size_bytes": push.manifest.config.size + sum(size for _, size, _ in layers),
        "converted_from": push.converted_from or None,
        "already_there": push.is_there,
        "layers": [{"digest": digest, "size": size, "how": how} for digest, size, how in layers],
    }
