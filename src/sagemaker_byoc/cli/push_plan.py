"""What `byoc push` would do, step by step, without asking anybody anything."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass

from sagemaker_byoc.cli.push_request import PushRequest
from sagemaker_byoc.cloud import ecr
from sagemaker_byoc.cloud.session import IDENTITY
from sagemaker_byoc.host import docker
from sagemaker_byoc.host.image_reference import Reference, ecr_host, parse
from sagemaker_byoc.images.model import DOCKER_MANIFEST
from sagemaker_byoc.images.sources.find import REMOTE, archive_path

ACCOUNT = "ACCOUNT"
"""Stands for what only AWS knows."""
CONTENT_TAG = "TAG"
"""Stands for twelve digits of the configuration's digest."""


@dataclass(frozen=True, slots=True)
class Step:
    """`do` is a command, or a request to a registry."""

    do: str
    why: str = ""


def plan(request: PushRequest, region: str) -> list[Step]:
    registry = request.registry or _ecr_registry(request, region)
    wanted = request.wanted(request.account or ACCOUNT)
    before = [] if request.registry else _repository(request, wanted, region)
    after = []
    if not request.registry:
        digest = "sha256:DIGEST"
        after = [Step(ecr.describe_image(wanted, digest).command(region), "its media type")]
    return [*before, *_source(request), *_transfer(request, registry), *after]


def _ecr_registry(request: PushRequest, region: str) -> str:
    if os.environ.get("AWS_ENDPOINT_URL_ECR") or os.environ.get("AWS_ENDPOINT_URL"):
        return "REGISTRY"
    suffix = ".cn" if region.startswith("cn-") else ""
    return f"{request.account or ACCOUNT}.dkr.ecr.{region}.amazonaws.com{suffix}"


def _repository(request: PushRequest, wanted: ecr.WantedRepository, region: str) -> list[Step]:
    steps = []
    if request.account is None:
        steps.append(Step(IDENTITY.command(region), "the account"))
    steps += [
        Step(ecr.LOGIN.command(region), "a login, kept in memory"),
        Step(ecr.describe(wanted).command(region)),
        Step(ecr.create(wanted).command(region), "if it is missing"),
    ]
    if wanted.mutability is not None:
        steps.append(Step(ecr.set_mutability(wanted).command(region), "if it is otherwise"))
    if wanted.scan_on_push is not None:
        steps.append(Step(ecr.set_scanning(wanted).command(region), "if it is otherwise"))
    if wanted.untagged_kept is not None:
        steps += [
            Step(ecr.get_lifecycle(wanted).command(region)),
            Step(ecr.set_lifecycle(wanted).command(region), "if it has none, or another of ours"),
        ]
    return steps


def _source(request: PushRequest) -> list[Step]:
    if request.image.startswith(REMOTE):
        found = parse(request.image.removeprefix(REMOTE))
        steps = [
            Step(f"GET https://{found.registry}/v2/{found.repository}/manifests/{found.target}")
        ]
        host = ecr_host(found.registry)
        if host is not None:
            login = Step(ecr.LOGIN.command(host.region), f"a login for account {host.account}")
            steps.insert(0, login)
        return steps
    if (path := archive_path(request.image)) is not None:
        return [Step(f"read {shlex.quote(str(path))}")]
    client = docker.client()
    return [
        Step(shlex.join([client, "image", "inspect", request.image])),
        Step(shlex.join([client, "save", request.image]), "unless the tag has this image already"),
    ]


def _transfer(request: PushRequest, registry: str) -> list[Step]:
    is_plain = request.insecure or Reference(registry, request.repository).is_local
    start = f"{'http' if is_plain else 'https'}://{registry}/v2/{request.repository}"
    tag = request.tag or CONTENT_TAG
    return [
        Step(f"GET {start}/manifests/{tag}", "is it there already?"),
        Step(f"HEAD {start}/blobs/DIGEST", "of each layer, and of the configuration"),
        Step(f"POST {start}/blobs/uploads/", "for each that is missing"),
        Step("PUT LOCATION?digest=DIGEST", "its bytes"),
        Step(f"PUT {start}/manifests/{tag}", DOCKER_MANIFEST),
        Step(f"GET {start}/manifests/{tag}", "verified: digest, media types, layers"),
        Step(f"GET {start}/blobs/DIGEST", "verified: the configuration, its platform"),
    ]
