"""Models of a multi-model container: loaded when a request names one, unloaded to make room.

Source: developer guide, mms-container-apis, invoke-multi-model-endpoint.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract import folders
from sagemaker_byoc.contract import http as hosting
from sagemaker_byoc.contract.paths import DEFAULT_ROOT
from sagemaker_byoc.region.containers.health import EndpointError
from sagemaker_byoc.region.containers.http_pool import Pool
from sagemaker_byoc.region.containers.http_reply import UnreachableError
from sagemaker_byoc.region.services.s3.store.objects import parse_s3_uri
from sagemaker_byoc.region.services.sagemaker.context import RegionContext
from sagemaker_byoc.region.services.sagemaker.models import ModelData, fetch, is_there
from sagemaker_byoc.region.wire.operations import AwsError

LOG = logging.getLogger(__name__)

LOAD_SECONDS = 360.0
"""Longest time in which a container loads or unloads a model."""
MOST_LOADED = 1000
"""Models of one container at the same time: each takes a folder of this machine."""
_ANSWER_LIMIT = 2**20
_LOGGED = 200
"""Bytes of an answer that the region's log has."""
_NO_ROOM = 507
_ALREADY_LOADED = 409
_STOPPING = "the container is being stopped"


class LoadError(Exception):
    """The container answered a request to load a model with an error."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body
        super().__init__(f"status {status}")


@dataclass(slots=True, eq=False)
class _Hosted:
    name: str
    """The container's name for it."""
    loading: asyncio.Task[None]
    users: int = 0
    """Requests that wait for it or that it answers."""
    unloading: asyncio.Task[bool] | None = None
    """Ends when the container and the folder no longer have it, or the container keeps it."""

    @property
    def is_idle(self) -> bool:
        return (
            not self.users
            and self.unloading is None
            and self.loading.done()
            and not self.loading.cancelled()
            and self.loading.exception() is None
        )


class HostedModels:
    """The models of one container, on the event loop; those used longest ago come first."""

    def __init__(
        self, container: str, prefix: str, folder: Path, pool: Pool, context: RegionContext
    ) -> None:
        """`prefix` is the ModelDataUrl; `folder` is seen in the container as /opt/ml/models."""
        self._container = container
        self._prefix = prefix.rstrip("/")
        self._folder = folder
        self._pool = pool
        self._context = context
        self._hosted: OrderedDict[str, _Hosted] = OrderedDict()
        self._is_closed = False

    async def enter(self, target: str, seconds: float) -> str:
        """Return the container's name for a model that it has loaded; `leave` must follow.

        `target` is the archive's key below the prefix. Raise AwsError if there is no such archive
        or the load takes longer than `seconds`, which continues then; LoadError; UpstreamError.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self._enter(target)
        except TimeoutError as error:
            raise AwsError(
                "ModelNotReadyException",
                f"Model {target} is not ready for inference: it is still being loaded. Send the "
                "request again",
                status=429,
            ) from error

    def leave(self, target: str) -> None:
        hosted = self._hosted.get(target)
        if hosted is not None:
            hosted.users -= 1

    async def close(self) -> None:
        """End the loads and unloads that are under way."""
        self._is_closed = True
        hosted = [*self._hosted.values()]
        tasks: list[asyncio.Task[Any]] = [each.loading for each in hosted]
        tasks += [each.unloading for each in hosted if each.unloading is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _enter(self, target: str) -> str:
        while True:  # it may be unloaded again, for a model that another request waits for
            if self._is_closed:
                raise UnreachableError(_STOPPING)
            hosted = self._hosted.get(target)
            if hosted is None or hosted.unloading is None:
                break
            await asyncio.wait([hosted.unloading])
        if hosted is None:
            name = hashlib.sha256(target.encode()).hexdigest()[:32]
            loading = asyncio.create_task(self._load(target, name), name=f"load {target}")
            loading.add_done_callback(lambda task: self._settle(target, task))
            hosted = self._hosted[target] = _Hosted(name, loading)
        self._hosted.move_to_end(target)
        hosted.users += 1
        try:
            await asyncio.shield(hosted.loading)
        except BaseException as error:
            hosted.users -= 1
            task = asyncio.current_task()
            if hosted.loading.cancelled() and task is not None and not task.cancelling():
                raise UnreachableError(_STOPPING) from error
            raise
        return hosted.name

    def _settle(self, target: str, task: asyncio.Task[None]) -> None:
        """Forget a model that could not be loaded: the next request tries again."""
        if task.cancelled() or task.exception() is not None:
            self._hosted.pop(target, None)

    async def _load(self, target: str, name: str) -> None:
        while self._staying() > MOST_LOADED and await self._unload_one():
            pass
        place = self._folder / name
        try:
            await self._fetch(target, place / "model")
            await self._require(name)
        except BaseException:
            await self._context.threads.finish(folders.remove, place)
            raise

    def _staying(self) -> int:
        """Return the number of models, without those that are being unloaded."""
        return sum(each.unloading is None for each in self._hosted.values())

    async def _require(self, name: str) -> None:
        """Let the container load a model, and unload others while it has no room."""
        url = f"{DEFAULT_ROOT}/{hosting.MODELS_FOLDER.value}/{name}/model"
        body = json.dumps({"model_name": name, "url": url}).encode()
        while True:
            status, answer = await self._ask("POST", "", body)
            if status < 300 or status == _ALREADY_LOADED:
                return
            if status != _NO_ROOM or not await self._unload_one():
                raise LoadError(status, answer)

    async def _fetch(self, target: str, folder: Path) -> None:
        data = ModelData(f"{self._prefix}/{target.lstrip('/')}", is_archive=True)
        store, threads = self._context.store, self._context.threads
        if not await threads.run(is_there, data, store):
            bucket, key = parse_s3_uri(data.uri)
            raise AwsError(
                "ValidationError",
                f"Failed to download model data (bucket: {bucket}, key: {key}). Please ensure that "
                "there is an object located at the URL and that the role passed to CreateModel "
                "has permissions to download the model.",
            )
        folder.mkdir(parents=True, exist_ok=True)
        try:
            await threads.finish(fetch, data, store, folder, self._container)
        except EndpointError as error:
            raise AwsError("ValidationError", error.sentence) from error

    async def _unload_one(self) -> bool:
        """Unload the model that was used longest ago, or the next one if the container keeps it.

        Return False if none can be unloaded. Raise UpstreamError.
        """
        kept: set[str] = set()
        while True:
            idle = (each for each in self._hosted.items() if each[1].is_idle)
            target, hosted = next((each for each in idle if each[0] not in kept), (None, None))
            if target is None or hosted is None:
                return False
            unloading = self._unload(target, hosted)
            hosted.unloading = asyncio.create_task(unloading, name=f"unload {target}")
            if await hosted.unloading:
                return True
            kept.add(target)

    async def _unload(self, target: str, hosted: _Hosted) -> bool:
        """Return False if the container keeps the model."""
        try:
            status, answer = await self._ask("DELETE", f"/{hosted.name}")
            if status >= 300 and status != 404:
                LOG.warning(
                    "%s does not unload %s: status %d, %r",
                    self._container, target, status, answer[:_LOGGED],
                )  # fmt: skip
                return False
            await self._context.threads.finish(folders.remove, self._folder / hosted.name)
            del self._hosted[target]
        finally:
            hosted.unloading = None
        return True

    async def _ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        head = (
            f"{method} {hosting.MODELS.value}{path} HTTP/1.1\r\nhost: model\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        reply = await self._pool.request(head.encode(), body, timeout=LOAD_SECONDS)
        return reply.status, await reply.read(_ANSWER_LIMIT)
