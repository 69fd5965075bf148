"""The page of what the local region answers, from its own tables and AWS's service models."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from botocore.model import OperationModel

from sagemaker_byoc.region.composition import compose
from sagemaker_byoc.region.containers.access import ContainerAccess
from sagemaker_byoc.region.core.account import Account, Credentials, Keys
from sagemaker_byoc.region.engines.docker import DockerEngine
from sagemaker_byoc.region.services.s3.call import Route
from sagemaker_byoc.region.services.s3.s3 import S3
from sagemaker_byoc.region.services.sagemaker_runtime.invocation import ROUTES
from sagemaker_byoc.region.wire import models
from sagemaker_byoc.region.wire.http import Request, Response
from sagemaker_byoc.region.wire.json11 import JsonService
from sagemaker_byoc.region.wire.query import QueryService

HEAD = """# What the local region answers

Generated from `src/sagemaker_byoc/region/` and botocore's service models by `scripts/docs`; CI
fails when it is stale. Other operations are refused with `UnknownOperationException`, which names
the operation and those that are supported.
"""
TITLES = {
    "s3": (
        "Path style and virtual hosts, persistent on the file system; forms of browsers (POST"
        " policies) too.\n\nRefused by name in any request, with `NotImplemented`: keys of the"
        " customer (SSE-C), object lock, annotations, write offsets, MFA, XXHash checksums, buckets"
        " with other ownership than `BucketOwnerEnforced`. ACLs that grant anything to others:"
        " `AccessControlListNotSupported`. Versions other than `null`: `NoSuchVersion`."
        " Encryption, ownership and the public access block of a bucket can only be put as every"
        " bucket has them."
    ),
    "sagemaker": "Requests are validated by the service model, and refused in AWS's words.",
    "sagemaker-runtime": "Invocations of endpoints.",
    "cloudwatch": (
        "Metrics of jobs, endpoints and clients, kept as long as AWS keeps them, and alarms of"
        " static thresholds. Metric math, Metrics Insights and anomaly detection are refused by"
        " name."
    ),
    "ecr": "With a registry at `/v2/` for `docker push` and `docker pull`.",
    "logs": "The output of containers, and events that clients put.",
    "events": "EventBridge: rules on the region's own events and on those that clients put, and"
    " schedules. Targets are URLs, API destinations and log groups; others are refused by name.",
    "sts": "The caller is the execution role.",
    "iam": "Any name is the name of a role that SageMaker may assume; nothing is forbidden.",
}
OF_ANOTHER_HOST = {"ListDirectoryBuckets"}
"""Addressed like another operation, on a host that only AWS has."""


def page() -> str:
    lines = [HEAD.rstrip()]
    supported = _supported()
    assert supported.keys() == TITLES.keys(), "each service has a title"
    for service, title in TITLES.items():
        every = set(models.service_model(service).operation_names)
        answered = sorted(every & supported[service])
        lines += ["", f"## {service}: {len(answered)} of {len(every)}", "", title, ""]
        lines += [f"- `{name}`" for name in answered]
        missing = ", ".join(f"`{name}`" for name in sorted(every - supported[service]))
        if missing:
            lines += [
                "",
                "<details><summary>not supported</summary>",
                "",
                missing,
                "",
                "</details>",
            ]
    return "\n".join(lines) + "\n"


def _supported() -> dict[str, set[str]]:
    with tempfile.TemporaryDirectory() as folder:
        access = ContainerAccess(
            engine=DockerEngine(),
            account=Account(),
            port=1,
            credentials=Credentials(Keys("key", "secret")),
        )
        composition = compose(Path(folder), access, control=lambda _: _own)
    services = composition.services
    found = {"sagemaker-runtime": set(_of_runtime())}
    for handler in (*services.targets.values(), *services.queries.values()):
        assert isinstance(handler, JsonService | QueryService)
        found[handler.service.name] = set(handler.service.operations)
    assert isinstance(services.s3, S3)
    found["s3"] = set(_of_routes(services.s3.routes))
    services.s3.close()
    return found


async def _own(_request: Request) -> Response:
    return Response()


def _of_runtime() -> Iterable[str]:
    service = models.service_model("sagemaker-runtime")
    for name in service.operation_names:
        if service.operation_model(name).http["requestUri"].rpartition("/")[2] in ROUTES:
            yield name


def _of_routes(routes: frozenset[Route]) -> Iterable[str]:
    service = models.service_model("s3")
    for name in service.operation_names:
        if name not in OF_ANOTHER_HOST and _route(service.operation_model(name)) in routes:
            yield name


def _route(operation: OperationModel) -> Route:
    """Return how the model addresses it: method, kind of resource, sub-resource in the query."""
    path, _, query = operation.http["requestUri"].partition("?")
    flags = [flag for flag in query.split("&") if flag and "=" not in flag]
    required = operation.input_shape.required_members if operation.input_shape else []
    if "UploadId" in required:
        flags = ["uploadId"]
    kind = "object" if "{Key+}" in path else "bucket" if "{Bucket}" in path else "service"
    method = "COPY" if "CopySource" in required else operation.http["method"]
    return method, kind, flags[0] if flags else ""
