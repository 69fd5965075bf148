"""One transform job: start its instances, send them the objects, stop them.

Each job has a thread with an event loop, so that its work does not delay the region's answers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from sagemaker_byoc.contract import variables
from sagemaker_byoc.contract.errors import MachineError
from sagemaker_byoc.contract.lifecycle import clip_lines
from sagemaker_byoc.region.containers.health import EndpointError
from sagemaker_byoc.region.containers.http_pool import Pool
from sagemaker_byoc.region.containers.specs import JOB_LABEL, Image
from sagemaker_byoc.region.core.records import now
from sagemaker_byoc.region.core.threads import loop_factory, to_the_end
from sagemaker_byoc.region.services.logs.log_store import LastingStream
from sagemaker_byoc.region.services.sagemaker.endpoints.configs import (
    ContainerPlan,
    VariantPlan,
)
from sagemaker_byoc.region.services.sagemaker.endpoints.fleet import Fleet
from sagemaker_byoc.region.services.sagemaker.endpoints.instance import (
    ILL_SECONDS,
    Deployment,
    Instance,
)
from sagemaker_byoc.region.services.sagemaker.endpoints.serving_container import Purpose
from sagemaker_byoc.region.services.sagemaker.jobs.containers import UploadError
from sagemaker_byoc.region.services.sagemaker.jobs.inputs import Item, find_items, share
from sagemaker_byoc.region.services.sagemaker.jobs.job import Job, JobRecord
from sagemaker_byoc.region.services.sagemaker.jobs.job_run import JobRun
from sagemaker_byoc.region.services.sagemaker.transform_jobs import captures
from sagemaker_byoc.region.services.sagemaker.transform_jobs.execution_parameters import effective
from sagemaker_byoc.region.services.sagemaker.transform_jobs.requests import (
    Sender,
    Side,
    TransformError,
)
from sagemaker_byoc.region.services.sagemaker.transform_jobs.transform_plan import (
    TransformPlan,
)
from sagemaker_byoc.region.services.sagemaker.transform_jobs.transformation import (
    Effective,
    ObjectResults,
    Transformation,
)
from sagemaker_byoc.region.services.sagemaker.utilization import Place
from sagemaker_byoc.region.wire.operations import AwsError

LOG = logging.getLogger(__name__)

_LOOK = 0.05
"""Seconds between two checks of an instance whose container is replaced."""
_UNHEALTHY = (
    "Model container failed to respond to ping; Please ensure /ping endpoint is implemented and "
    "responds with an HTTP 200 status code."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformJob(Job):
    plan: TransformPlan
    variant: VariantPlan
    """The model on the job's instances."""
    images: Mapping[str, Image]
    """By the URIs of the variant."""


class TransformRun(JobRun):
    job: TransformJob

    def __init__(self, job: TransformJob, record: JobRecord, on_end: Callable[[str], None]) -> None:
        super().__init__(job, record, on_end)
        self._plan = job.plan
        self._start_time = now()
        self._objects = ObjectResults()

    def _run(self) -> Callable[[], None]:
        items = find_items(self._context.store, self._plan.source)
        for image in self.job.images.values():
            self._context.images.bring(image, is_stopped=lambda: self.switch.asked)
        if self.switch.asked:
            return partial(self._complete, self.switch.why)
        self._record.begin_time()
        self._start_time = now()
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._until_stopped(items))
        except asyncio.CancelledError:
            self._discard()
            return partial(self._complete, self.switch.why)
        except EndpointError as error:
            return partial(self._fail, _reason(error))
        if self._objects.failed:
            return partial(self._fail, self._objects.reason)
        try:
            captures.write(self._context.store, self._plan, self._objects.stored, self._start_time)
        except AwsError as error:
            raise UploadError(error.message) from error
        return partial(self._complete, None)

    def _discard(self) -> None:
        """Remove the outputs: SageMaker stores none of a job that is stopped."""
        for item in self._objects.stored:
            key = self._plan.output_key(item.relative)
            try:
                self._context.store.delete(self._plan.bucket, key)
            except (AwsError, OSError) as error:
                LOG.warning("s3://%s/%s can't be removed: %s", self._plan.bucket, key, error)

    # ── on the job's event loop ──

    async def _until_stopped(self, items: Sequence[Item]) -> None:
        """Transform the items. Raise CancelledError if a stop is requested, EndpointError."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def cancel() -> None:
            if not task.cancelling():  # a second cancellation would interrupt the clean-up
                task.cancel()

        def on_stop() -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(cancel)

        self.switch.listen(on_stop)
        await self._transform(items)

    async def _transform(self, items: Sequence[Item]) -> None:
        purpose = _purpose(self.job, int(time.time()))
        variant = replace(self.job.variant, containers=self._containers())
        deployment = Deployment(purpose, self._context, self.job.work, self.job.images)
        fleet = Fleet(deployment, [variant])
        await fleet.start()
        try:
            (running,) = fleet.variants.values()
            first = next(iter(running.instances[0].pools.values()))
            limits, notes = await effective(self._plan.limits, first)
            hosts = zip(self._plan.source.hosts, running.instances, strict=True)
            async with asyncio.TaskGroup() as group:
                for host, instance in hosts:
                    mine = share(self._plan.source, items, host)
                    group.create_task(self._use(instance, mine, limits, notes))
        finally:
            await to_the_end(fleet.stop(drain=0))

    def _containers(self) -> tuple[ContainerPlan, ...]:
        """Return the model's containers with the variables of the job, which take precedence."""
        own = _variables(self._plan, self._context.account.arn)
        return tuple(
            replace(each, environment={**own, **each.environment, **self._plan.environment})
            for each in self.job.variant.containers
        )

    async def _use(
        self, instance: Instance, items: Sequence[Item], limits: Effective, notes: Sequence[str]
    ) -> None:
        plan, context = self._plan, self._context
        processing = plan.processing
        if processing is not None and plan.gives_ids:
            started = f"{self._start_time:%Y-%m-%dT%H:%M:%SZ}"
            processing = replace(processing, inference_time=started)
        log = DataLog(
            LastingStream(context.logs, self.job.kind.group, f"{instance.stream}/data-log")
        )
        try:
            await context.threads.run(log.begin, limits, notes)
            await Transformation(
                plan=plan,
                processing=processing,
                limits=limits,
                sender=Sender(
                    target=_Target(instance),
                    content_type=plan.content_type,
                    accept=plan.accept,
                    seconds=plan.seconds,
                    retries=plan.retries,
                ),
                store=context.store,
                threads=context.threads,
                results=self._objects,
                on_failure=log.fail,
            ).run(items)
        finally:
            log.close()


class DataLog:
    """The log stream of an instance with the limits, and the cause of each failed object."""

    def __init__(self, stream: LastingStream) -> None:
        self._stream = stream
        self.close = stream.close

    def begin(self, limits: Effective, notes: Sequence[str]) -> None:
        self._say(
            f"MaxConcurrentTransforms={limits.concurrent}, MaxPayloadInMB={limits.megabytes}, "
            f"BatchStrategy={limits.strategy.variable}"
        )
        for note in notes:
            self._say(note)

    def fail(self, item: Item, error: TransformError) -> None:
        for line in error.lines:
            self._say(f"{item.bucket}/{item.key}: {line}")

    def _say(self, line: str) -> None:
        time = now()
        stamp = f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}"
        self._stream.write(f"{stamp}:[sagemaker logs]: {line}")


class _Target:
    """An instance as the sender sees it.

    A container that works on a request may not answer /ping and is still healthy. So requests wait
    for its health only after one has failed.
    """

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._is_suspected = False

    @property
    def pools(self) -> Mapping[str, Pool]:
        return self._instance.pools

    def suspect(self) -> None:
        self._is_suspected = True
        self._instance.suspect()

    async def until_healthy(self) -> bool:
        while self._is_suspected and not self._instance.is_healthy:
            if self._instance.is_given_up:
                return False
            await asyncio.sleep(_LOOK)
        self._is_suspected = False
        return True


def _purpose(job: TransformJob, epoch: int) -> Purpose:
    return Purpose(
        name=job.id,
        group=job.kind.group,
        labels={**job.context.labels, JOB_LABEL: job.id},
        stream=lambda _, instance: f"{job.name}/{instance}-{epoch}",
        place=lambda _, instance: Place(
            job.kind.group, {"Host": f"{job.name}/{instance}"}, instance
        ),
        unhealthy=lambda _: _UNHEALTHY,
        # A request may keep it busy for `seconds`; then it has as long as an endpoint's container.
        ill_seconds=job.plan.seconds + ILL_SECONDS,
    )


def _variables(plan: TransformPlan, arn: Callable[[str, str], str]) -> dict[str, str]:
    """Return the variables of a transform job; the last three only if the request sets them."""
    limits = plan.limits
    found = {
        variables.BATCH_TRANSFORM: "true",
        variables.TRANSFORM_JOB_ARN: arn("sagemaker", f"transform-job/{plan.name}"),
    }
    if limits.megabytes is not None:
        found[variables.MAX_PAYLOAD_IN_MB] = str(limits.megabytes)
    if limits.strategy is not None:
        found[variables.BATCH_STRATEGY] = limits.strategy.variable
    if limits.concurrent is not None:
        found[variables.MAX_CONCURRENT_TRANSFORMS] = str(limits.concurrent)
    return found


def _reason(error: EndpointError) -> str:
    if isinstance(error.__cause__, MachineError):
        return f"{Side.INTERNAL.value}: {error.__cause__.sentence}"
    side = Side.ALGORITHM if error.what.startswith(_UNHEALTHY) else Side.CLIENT
    return clip_lines(f"{side.value}: {error.what}")
