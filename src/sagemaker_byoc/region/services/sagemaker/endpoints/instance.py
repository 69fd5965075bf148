"""One instance of a variant: its containers, connections to them, and replacements if they end."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections.abc import Awaitable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract import http as hosting
from sagemaker_byoc.contract.errors import ByocError
from sagemaker_byoc.region.containers.health import (
    stopped,
)
from sagemaker_byoc.region.containers.http_pool import Pool
from sagemaker_byoc.region.containers.http_reply import UpstreamError
from sagemaker_byoc.region.containers.specs import Image
from sagemaker_byoc.region.core.threads import to_the_end
from sagemaker_byoc.region.services.logs.log_store import LastingStream
from sagemaker_byoc.region.services.sagemaker.context import RegionContext
from sagemaker_byoc.region.services.sagemaker.endpoints.configs import VariantPlan
from sagemaker_byoc.region.services.sagemaker.endpoints.hosted_models import HostedModels
from sagemaker_byoc.region.services.sagemaker.endpoints.serving_container import (
    Launch,
    Purpose,
    ServingContainer,
)
from sagemaker_byoc.region.services.sagemaker.utilization import Place

LOG = logging.getLogger(__name__)

GROUP = "/aws/sagemaker/Endpoints/"
KIND = "endpoints"
LABEL = "sagemaker-byoc.endpoint"
ILL_SECONDS = 15.0


def hosting_labels(context: RegionContext) -> dict[str, str]:
    """Return the labels of every container that this region hosts."""
    return {**context.labels, "sagemaker-byoc.kind": "hosting"}


async def all_stopped(stops: Iterable[Awaitable[None]], whose: str) -> None:
    """Wait for all `stops`; log those that fail."""
    for ended in await asyncio.gather(*stops, return_exceptions=True):
        if isinstance(ended, Exception):
            LOG.warning("a stop of %s failed: %s", whose, ended)


def for_endpoint(name: str, context: RegionContext) -> Purpose:
    return Purpose(
        name=name,
        group=GROUP + name,
        labels={**hosting_labels(context), LABEL: name},
        stream=lambda variant, instance: f"{variant}/{instance}",
        place=lambda variant, instance: Place(
            GROUP.rstrip("/"), {"EndpointName": name, "VariantName": variant}, instance
        ),
        unhealthy=lambda variant: (
            f"The {variant.containers[0].name} container for production variant {variant.name} did "
            "not pass the ping health check. Please check CloudWatch logs for this endpoint."
        ),
        ill_seconds=ILL_SECONDS,
    )


PING_EVERY = 5.0
"""Seconds; SageMaker does not publish how often it pings a healthy container."""
_ASK_EVERY = 6
"""Pings per question to the engine: a process that outlived its container may answer /ping."""
_LOOK_AGAIN = 1.0
_DELAYS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0)
"""Seconds before each attempt to replace a container; then its instance stays out of service."""
_STEADY = 60.0
"""Seconds of health after which the delays start from the first."""
PING = b"GET /ping HTTP/1.1\r\nHost: model\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the instances of one deployment share."""

    purpose: Purpose
    context: RegionContext
    folder: Path
    """Made at the start, removed at the end."""
    images: Mapping[str, Image]
    """By the URIs of the plan."""


class Instance:
    """An instance on the event loop; blocking calls run in the context's threads."""

    def __init__(
        self, deployment: Deployment, variant: VariantPlan, models: Mapping[str, Mapping[str, Path]]
    ) -> None:
        """`models` has the sources of each of the variant's containers."""
        context, purpose = deployment.context, deployment.purpose
        self.id = f"i-{secrets.token_hex(8)}1"
        self.stream = purpose.stream(variant.name, self.id)
        self.outstanding = 0
        """Requests under way."""
        self.is_healthy = False
        self.pools: dict[str, Pool] = {}
        """By container, in the order of the plan."""
        self.models: HostedModels | None = None
        """Those of a multi-model container, the only one of its instance."""
        self._context = context
        self._purpose = purpose
        several = len(variant.containers) > 1
        self._launches = [
            Launch(
                purpose=purpose,
                plan=each,
                image=deployment.images[each.image],
                sources=models[each.name],
                folder=deployment.folder / f"{self.id}-{number}",
                name=f"{context.prefix}-{purpose.name}-{self.id}-{number}",
                stream=f"{self.stream}/{each.name}" if several else self.stream,
                place=purpose.place(variant.name, self.id),
                instance_containers=len(variant.containers),
                startup_timeout=variant.startup_timeout,
            )
            for number, each in enumerate(variant.containers)
        ]
        types = [variant.instance_type]
        found = {launch.image.machine_warning(types) for launch in self._launches}
        self._warnings = sorted(found - {""})
        self._served: list[ServingContainer] = []
        self._given_up = threading.Event()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start until healthy. Raise ByocError, leaving nothing, if that fails."""
        for warning in self._warnings:
            await self._context.threads.run(self._say, warning)
        await self._start_containers()
        self._watch = asyncio.create_task(self._watch_health(), name=f"watch {self.id}")

    async def stop(self, drain: float = 0.0) -> None:
        """Wait up to `drain` seconds for requests under way, then stop as the contract says.

        No new request may be sent here.
        """
        self._given_up.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(drain):
                await self._idle.wait()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._stop_containers()

    def give_up(self) -> None:
        """Make a start that is under way fail soon."""
        self._given_up.set()

    def hurry(self) -> None:
        """Make a stop that is under way wait for no more requests."""
        self._idle.set()

    # ── requests ──

    def enter(self) -> None:
        self.outstanding += 1
        self._idle.clear()

    def leave(self) -> None:
        self.outstanding -= 1
        if self.outstanding == 0:
            self._idle.set()

    @property
    def is_given_up(self) -> bool:
        """Return whether it stays out of service."""
        return self._watch is not None and self._watch.done()

    def suspect(self) -> None:
        """Send no more requests until the watch, which is woken, has checked the instance."""
        self.is_healthy = False
        self._wake.set()

    # ── containers ──

    async def _start_containers(self) -> None:
        await to_the_end(self._start_together())

    async def _start_together(self) -> None:
        loop = asyncio.get_running_loop()

        def on_end() -> None:
            with suppress(RuntimeError):  # the loop has ended before the log
                loop.call_soon_threadsafe(self._wake.set)

        found = await asyncio.gather(
            *(
                self._context.starts.run(
                    ServingContainer.start, launch, self._context, on_end, self._given_up
                )
                for launch in self._launches
            ),
            return_exceptions=True,
        )
        self._served = [each for each in found if isinstance(each, ServingContainer)]
        errors = [each for each in found if isinstance(each, BaseException)]
        if errors or self._given_up.is_set():
            await self._stop_containers()
            raise errors[0] if errors else stopped()
        self.pools = {each.launch.plan.name: Pool(each.port) for each in self._served}
        (first, *_) = self._served
        if first.launch.plan.models:
            plan, pool = first.launch.plan, self.pools[first.launch.plan.name]
            self.models = HostedModels(
                plan.name, plan.models, first.launch.models, pool, self._context
            )
        self._wake.clear()
        self.is_healthy = True

    async def _stop_containers(self) -> None:
        self.is_healthy = False
        models, self.models = self.models, None
        if models is not None:
            await models.close()
        served, self._served = self._served, []
        await all_stopped((self._context.starts.finish(each.stop) for each in served), self.stream)
        for pool in self.pools.values():
            pool.close()

    # ── the watch ──

    async def _watch_health(self) -> None:
        loop = asyncio.get_running_loop()
        attempts = 0
        while True:
            since = loop.time()
            cause: str | None = await self._next_failure()
            if loop.time() - since > _STEADY:
                attempts = 0
            while cause is not None:
                if attempts == len(_DELAYS):
                    await self._context.threads.run(self._say, f"{cause}; it stays out of service")
                    return
                cause = await self._replace(cause, _DELAYS[attempts])
                attempts += 1

    async def _next_failure(self) -> str:
        """Ping until a container has failed, and return why."""
        loop = asyncio.get_running_loop()
        looks, ill_since = 0, None
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PING_EVERY if ill_since is None else _LOOK_AGAIN):
                    await self._wake.wait()
            self._wake.clear()
            looks += 1
            if await self._answers():
                self.is_healthy, ill_since = True, None
                if looks % _ASK_EVERY:
                    continue
            elif ill_since is None:
                ill_since = loop.time()
            code = await self._exit_code()
            if code is not None:
                return f"it ended with exit code {code}"
            most = self._purpose.ill_seconds
            if ill_since is not None and loop.time() - ill_since > most:
                return f"/ping was not 200 for {most:.0f} s"

    async def _answers(self) -> bool:
        """Return whether each container answers /ping with 200 within SageMaker's 2 s."""
        for pool in self.pools.values():
            try:
                reply = await pool.request(PING, timeout=hosting.PING_TIMEOUT.value)
                await reply.read(2**16)
            except UpstreamError:
                return False
            if reply.status != 200:
                return False
        return True

    async def _exit_code(self) -> int | None:
        """Return the first exit code of an ended container; None if the engine can't tell."""
        for each in self._served:
            try:
                code = await self._context.threads.run(each.container.exit_code)
            except (ByocError, OSError) as error:
                LOG.warning("the state of %s is unknown: %s", each.launch.name, error)
                continue
            if code is not None:
                return code
        return None

    async def _replace(self, cause: str, delay: float) -> str | None:
        """Replace the containers; return why they did not become healthy, or None."""
        self.is_healthy = False
        await self._context.threads.run(
            self._say, f"{cause}; a new one is started in {delay:.0f} s"
        )
        await self._stop_containers()
        await asyncio.sleep(delay)
        try:
            await self._start_containers()
        except ByocError as error:
            return error.sentence
        except OSError as error:
            return str(error)
        return None

    def _say(self, text: str) -> None:
        group = self._purpose.group
        stream = LastingStream(self._context.logs, group, self._launches[0].stream)
        stream.write(f"byoc: container of {self.stream}: {text}")
        stream.close()
