"""The composition of a region: its services, and the parts that are started and closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sagemaker_byoc.region.clients import default_bucket
from sagemaker_byoc.region.containers.access import ContainerAccess
from sagemaker_byoc.region.containers.images import DockerImages, Images, Pushed
from sagemaker_byoc.region.containers.recorded_images import RecordedImages
from sagemaker_byoc.region.services.cloudwatch.cloudwatch import CloudWatch
from sagemaker_byoc.region.services.ecr.ecr import Registry
from sagemaker_byoc.region.services.events.events import Events
from sagemaker_byoc.region.services.iam import Iam
from sagemaker_byoc.region.services.logs.log_store import LogStore
from sagemaker_byoc.region.services.logs.logs import Logs
from sagemaker_byoc.region.services.s3.s3 import S3
from sagemaker_byoc.region.services.s3.store.disk import Disk
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.sagemaker.context import RegionContext
from sagemaker_byoc.region.services.sagemaker.endpoints.configs import EndpointConfigs
from sagemaker_byoc.region.services.sagemaker.endpoints.endpoints import Endpoints
from sagemaker_byoc.region.services.sagemaker.model_registry.groups import ModelPackageGroups
from sagemaker_byoc.region.services.sagemaker.model_registry.packages import ModelPackages
from sagemaker_byoc.region.services.sagemaker.models import Models
from sagemaker_byoc.region.services.sagemaker.processing_jobs.processing_jobs import ProcessingJobs
from sagemaker_byoc.region.services.sagemaker.search.search import Search
from sagemaker_byoc.region.services.sagemaker.training_jobs.training_jobs import TrainingJobs
from sagemaker_byoc.region.services.sagemaker.transform_jobs.transform_jobs import TransformJobs
from sagemaker_byoc.region.services.sagemaker_runtime.invocation import Invocations, Policy
from sagemaker_byoc.region.services.sagemaker_runtime.invocation_metrics import InvocationMetrics
from sagemaker_byoc.region.services.sts import Sts
from sagemaker_byoc.region.wire import models
from sagemaker_byoc.region.wire.cbor import CborService
from sagemaker_byoc.region.wire.http import Handler
from sagemaker_byoc.region.wire.json11 import JsonService
from sagemaker_byoc.region.wire.operations import Operations
from sagemaker_byoc.region.wire.query import QueryService
from sagemaker_byoc.region.wire.routing import Services

LOG = logging.getLogger(__name__)

CLOSING_SECONDS = 150.0
"""For one part: more than the 120 s that a training container has to save its model."""
_THREADS_SECONDS = 20.0


class Part(Protocol):
    """A service with containers: it finds them after a restart, and ends them."""

    def start(self) -> None:
        """Begin, on the thread of the event loop."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Composition:
    services: Services
    release: Callable[[], None]
    """Gives the answers that are held; called when the region begins to end."""
    parts: tuple[Part, ...]
    last: Mapping[str, Callable[[], None]]
    """What ends the threads that the parts use."""

    def start(self) -> None:
        for part in self.parts:
            part.start()

    async def close(self) -> None:
        """Close the parts at once, then the threads that they use, each within a bound.

        A part that fails does not affect the others.
        """
        await _close_all(
            [(type(each).__name__, each.close()) for each in self.parts], CLOSING_SECONDS
        )
        threads = [(name, asyncio.to_thread(close)) for name, close in self.last.items()]
        await _close_all(threads, _THREADS_SECONDS)


async def _close_all(
    closing: Sequence[tuple[str, Coroutine[None, None, None]]], seconds: float
) -> None:
    bounded = (asyncio.wait_for(each, seconds) for _, each in closing)
    outcomes = await asyncio.gather(*bounded, return_exceptions=True)
    for (name, _), outcome in zip(closing, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            LOG.error("%s did not close", name, exc_info=outcome)


def compose(
    state: Path,
    access: ContainerAccess,
    *,
    control: Callable[[TrainingJobs], Handler],
    disk: Disk | None = None,
) -> Composition:
    account, engine = access.account, access.engine
    store = ObjectStore(state / "s3", disk)
    if not store.has_bucket(default_bucket(account)):
        store.create_bucket(default_bucket(account))
    logs = LogStore(state / "logs")
    s3 = S3(store, account, None if access.is_open else access.credentials.secret_of)
    registry = Registry(state=state, account=account, url=access.url)
    context = RegionContext(
        state=state,
        account=account,
        engine=engine,
        images=make_images(engine.name, state, registry.pushed),
        store=store,
        logs=logs,
        access=access,
    )
    cloudwatch = CloudWatch(
        state / "metrics", context.metrics, account, publish=context.events.publish
    )
    training_jobs = TrainingJobs(context)
    processing_jobs = ProcessingJobs(context)
    groups = ModelPackageGroups(context)
    packages = ModelPackages(context, groups)
    models = Models(context, packages)
    configs = EndpointConfigs(context, models)
    endpoints = Endpoints(context, configs)
    events = Events(state, account, bus=context.events, logs=logs)
    transform_jobs = TransformJobs(context, models)
    kinds = (
        context.tags,
        training_jobs,
        processing_jobs,
        groups,
        packages,
        models,
        configs,
        endpoints,
        transform_jobs,
        Search(context),
    )
    invocation_metrics = InvocationMetrics(endpoints.by_name, context.metrics)
    targets, queries, cbors = _by_protocol(
        {
            "cloudwatch": cloudwatch.operations(),
            "ecr": registry.operations(),
            "events": events.operations(),
            "iam": Iam(account).operations(),
            "logs": Logs(logs, account).operations(),
            "sagemaker": {name: run for kind in kinds for name, run in kind.operations().items()},
            "sts": Sts(account, access.credentials).operations(),
        }
    )
    return Composition(
        services=Services(
            targets=targets,
            s3=s3,
            runtime=Invocations(
                endpoints.by_name, account, Policy(endpoints.captures.take, invocation_metrics)
            ),
            registry=registry.handler,
            own=control(training_jobs),
            queries=queries,
            cbors=cbors,
        ),
        release=context.holds.release,
        parts=(
            training_jobs,
            processing_jobs,
            endpoints,
            transform_jobs,
            events,
            cloudwatch,
            invocation_metrics,
        ),
        last={
            "threads": context.threads.abandon,
            "starts": context.starts.abandon,
            "events": events.finish,
            "ECR": registry.close,
            "S3": s3.close,
            "CloudWatch": context.metrics.close,
        },
    )


def _by_protocol(
    services: Mapping[str, Operations],
) -> tuple[dict[str, JsonService], dict[str, QueryService], dict[str, CborService]]:
    """Return a handler for each protocol of a service, as its model lists them.

    JSON services are found by the prefix of X-Amz-Target, the others by their signing name.
    """
    targets, queries, cbors = {}, {}, {}
    for name, operations in services.items():
        service, facts = models.Service(name, operations), models.service_model(name).metadata
        protocols = facts.get("protocols", [facts["protocol"]])
        if "json" in protocols:
            targets[facts["targetPrefix"]] = JsonService(service)
        scope = facts.get("signingName", facts["endpointPrefix"])
        if "query" in protocols:
            queries[scope] = QueryService(service)
        if "smithy-rpc-v2-cbor" in protocols:
            cbors[scope] = CborService(service)
    return targets, queries, cbors


def make_images(engine: str, state: Path, pushed: Pushed) -> Images:
    return DockerImages(pushed) if engine == "docker" else RecordedImages(state)
