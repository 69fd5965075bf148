"""What all endpoints share: the engine, the logs, threads for blocking calls, free ports."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sagemaker_byoc.host.ports import Ports
from sagemaker_byoc.region.containers.access import ContainerAccess
from sagemaker_byoc.region.containers.images import Images
from sagemaker_byoc.region.containers.leftovers import machine_label, region_labels, region_prefix
from sagemaker_byoc.region.containers.specs import Image
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.engines.container import Engine
from sagemaker_byoc.region.services.logs.log_store import LogStore
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore

P = ParamSpec("P")
R = TypeVar("R")
LOG = logging.getLogger(__name__)

THREADS = 64
"""Containers that start or stop at the same time, each in a thread."""
LABEL = "sagemaker-byoc.endpoint"


async def to_the_end(work: Coroutine[Any, Any, R]) -> R:
    """Return the outcome of `work`; a cancellation takes effect only after its end."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is not None:
            LOG.debug("after a cancellation", exc_info=task.exception())
        raise


async def all_stopped(stops: Iterable[Awaitable[None]], whose: str) -> None:
    """Wait for all `stops`; log those that fail."""
    for ended in await asyncio.gather(*stops, return_exceptions=True):
        if isinstance(ended, Exception):
            LOG.warning("a stop of %s failed: %s", whose, ended)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostingContext:
    account: Account
    engine: Engine
    images: Images
    store: ObjectStore
    logs: LogStore
    work: Path
    """Folders of what runs: WORK/ENDPOINT/DEPLOYMENT/…"""
    state: Path
    """Distinguishes this region's containers from another's on the same machine."""
    access: ContainerAccess | None = None
    """How containers reach the region; None if they can't."""
    ports: Ports = field(default_factory=Ports)
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(THREADS, thread_name_prefix="byoc-hosting")
    )

    async def brought(self, uri: str) -> Image:
        """Return the image that `uri` names, once the engine has it. Raise AwsError.

        A cancellation ends a pull that is under way.
        """
        image = await self.run(self.images.resolve, uri)
        stopped = threading.Event()
        try:
            await self.run(self.images.bring, image, is_stopped=stopped.is_set)
        finally:
            stopped.set()
        return image

    async def finish(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do as `run` does, and wait even if the caller is cancelled.

        What a thread has begun continues, and its containers and folders are in use until its end.
        """
        return await to_the_end(self.run(function, *args, **kwargs))

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `function` in a thread that no other part of the region waits for."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, lambda: function(*args, **kwargs))

    def labels(self, endpoint: str) -> dict[str, str]:
        return {**self.all_labels, **machine_label(), LABEL: endpoint}

    @property
    def all_labels(self) -> dict[str, str]:
        """The labels of every container that this region hosts."""
        return {**region_labels(self.state), "sagemaker-byoc.kind": "hosting"}

    @property
    def prefix(self) -> str:
        """The prefix of its containers' names."""
        return region_prefix(self.state)
