"""Models of a multi-model container: loaded when a request names one, unloaded to make room.

Source: developer guide, mms-container-apis, invoke-multi-model-endpoint.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

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

LOAD_SECONDS = 360.0
"""Longest time in which a container loads or unloads a model."""
MOST_LOADED = 1000
"""Models of one container at the same time: each takes a folder of this machine."""
_ANSWER_LIMIT = 2**20
_NO_ROOM = 507
_ALREADY_LOADED = 409


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

    @property
    def is_idle(self) -> bool:
        return not self.users and self.loading.done()


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

    async def enter(self, target: str, seconds: float) -> str:
        """Return the container's name for a model that it has loaded; `leave` must follow.

        `target` is the archive's key below the prefix. Raise AwsError if there is no such archive
        or the load takes longer than `seconds`, which continues then; LoadError; UpstreamError.
        """
        hosted = self._hosted.get(target)
        if hosted is None:
            name = hashlib.sha256(target.encode()).hexdigest()[:32]
            loading = asyncio.create_task(self._load(target, name), name=f"load {target}")
            loading.add_done_callback(lambda task: self._settle(target, task))
            hosted = self._hosted[target] = _Hosted(name, loading)
        self._hosted.move_to_end(target)
        hosted.users += 1
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(hosted.loading)
        except TimeoutError as error:
            hosted.users -= 1
            raise AwsError(
                "ModelNotReadyException",
                f"Model {target} is not ready for inference: it is still being loaded. Send the "
                "request again",
                status=429,
            ) from error
        except BaseException as error:
            hosted.users -= 1
            task = asyncio.current_task()
            if hosted.loading.cancelled() and task is not None and not task.cancelling():
                raise UnreachableError("the container is being stopped") from error
            raise
        return hosted.name

    def leave(self, target: str) -> None:
        hosted = self._hosted.get(target)
        if hosted is not None:
            hosted.users -= 1

    async def close(self) -> None:
        """End the loads that are under way."""
        loads = [each.loading for each in self._hosted.values()]
        for load in loads:
            load.cancel()
        await asyncio.gather(*loads, return_exceptions=True)

    def _settle(self, target: str, task: asyncio.Task[None]) -> None:
        """Forget a model that could not be loaded: the next request tries again."""
        if task.cancelled() or task.exception() is not None:
            self._hosted.pop(target, None)

    async def _load(self, target: str, name: str) -> None:
        while len(self._hosted) > MOST_LOADED and await self._unload_one():
            pass
        place = self._folder / name
        try:
            await self._fetch(target, place / "model")
            await self._require(name)
        except BaseException:
            await self._context.threads.finish(folders.remove, place)
            raise

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
        """Unload the model that was used longest ago; return False if all are in use."""
        idle = next((target for target, each in self._hosted.items() if each.is_idle), None)
        if idle is None:
            return False
        name = self._hosted.pop(idle).name
        status, answer = await self._ask("DELETE", f"/{name}")
        if status >= 300 and status != 404:
            raise LoadError(status, answer)
        await self._context.threads.finish(folders.remove, self._folder / name)
        return True

    async def _ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        head = (
            f"{method} {hosting.MODELS.value}{path} HTTP/1.1\r\nhost: model\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        reply = await self._pool.request(head.encode(), body, timeout=LOAD_SECONDS)
        return reply.status, await reply.read(_ANSWER_LIMIT)
