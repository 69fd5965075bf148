"""One invocation at one instance: through its containers, to an answer or to a ModelError."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from sagemaker_byoc.contract.hosting import http as hosting
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.services.sagemaker.endpoints.fleet import Variant
from sagemaker_byoc.region.services.sagemaker.endpoints.instance import Instance
from sagemaker_byoc.region.services.sagemaker_runtime import headers, model_errors
from sagemaker_byoc.region.services.sagemaker_runtime.model_errors import Place
from sagemaker_byoc.region.services.sagemaker_runtime.streaming import EventStream
from sagemaker_byoc.region.services.sagemaker_runtime.upstream.errors import (
    BusyError,
    UnreachableError,
    UpstreamError,
)
from sagemaker_byoc.region.services.sagemaker_runtime.upstream.reply import Reply
from sagemaker_byoc.region.wire.errors import AwsError
from sagemaker_byoc.region.wire.http import Request, Response


class ModelFailure(Exception):  # noqa: N818 - it carries an answer
    """Ends the way through the containers."""

    def __init__(self, response: Response) -> None:
        self.response = response
        super().__init__()


@dataclass(slots=True, kw_only=True)
class Call:
    """`instance` counts it as under way already; `seconds` are for all of it."""

    account: Account
    endpoint: str
    variant: Variant
    instance: Instance
    request: Request
    head: bytes
    body: bytes
    is_stream: bool
    seconds: float

    async def run(self) -> Response:
        """Raises UnreachableError, BusyError where a container could not be asked; AwsError."""
        try:
            response = await self._pass_through()
        except ModelFailure as failure:
            response = failure.response
        except BaseException:
            self.instance.leave()
            raise
        if not isinstance(response.body, EventStream):  # which leaves at its end
            self.instance.leave()
        return response

    async def _pass_through(self) -> Response:
        deadline = asyncio.get_running_loop().time() + self.seconds
        names = self._containers()
        head, body, left = self.head, self.body, self.seconds
        for name in names[:-1]:
            reply = await self._begin(name, head, body, left)
            body = await self._rest(name, reply)
            content_type = reply.header(b"content-type") or "application/octet-stream"
            head = headers.next_head(self.head, content_type, len(body))
            left = deadline - asyncio.get_running_loop().time()
        name = names[-1]
        reply = await self._begin(name, head, body, left)
        back = headers.response_headers(
            reply, self.variant.plan.name, self.request.id, is_stream=self.is_stream
        )
        if self.is_stream:
            return Response(headers=back, body=EventStream(reply, self.instance.leave))
        return Response(headers=back, body=await self._rest(name, reply))

    def _containers(self) -> list[str]:
        """The names of those that it goes through. Raises AwsError."""
        plan = self.variant.plan
        target = self.request.headers.get(headers.TARGET_CONTAINER)
        if headers.TARGET_MODEL in self.request.headers:
            raise self._refusal("is not a multi-model endpoint and does not support target model")
        if not plan.is_direct:
            if target is not None:
                raise self._refusal(
                    "is not a multi-container endpoint with direct invocation and does not "
                    "support target container hostname"
                )
            return [*self.instance.pools]
        if target not in self.instance.pools:
            names = ", ".join(self.instance.pools)
            raise self._refusal(f"needs TargetContainerHostname, one of {names}, not {target}")
        return [target]

    def _refusal(self, text: str) -> AwsError:
        return AwsError("ValidationError", f"Endpoint {self.endpoint} {text}.")

    async def _begin(self, name: str, head: bytes, body: bytes, timeout: float) -> Reply:
        """The start of a good answer."""
        try:
            reply = await self.instance.pools[name].request(head, body, timeout=timeout)
        except (UnreachableError, BusyError):
            raise
        except UpstreamError as error:
            raise self._unfinished(name, 0, error) from error
        if 200 <= reply.status < 300:
            return reply
        text = await self._rest(name, reply)
        place = Place(self.account, self.endpoint, name)
        raise ModelFailure(model_errors.refused(self.request, place, reply.status, text))

    async def _rest(self, name: str, reply: Reply) -> bytes:
        try:
            return await reply.read(hosting.API_PAYLOAD.value)
        except UpstreamError as error:
            raise self._unfinished(name, reply.status, error) from error

    def _unfinished(self, name: str, status: int, error: UpstreamError) -> ModelFailure:
        place = Place(self.account, self.endpoint, name)
        return ModelFailure(model_errors.unfinished(self.request, place, status, error))
