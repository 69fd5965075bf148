"""One invocation at one instance, through its containers: its head, its answer, or a ModelError.

Source: service model, sagemaker-runtime; developer guide, your-algorithms-inference-code: headers
that are not listed here are stripped. The sentences of a ModelError are SageMaker's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from sagemaker_byoc.contract import http as hosting
from sagemaker_byoc.region.containers.http_reply import (
    BusyError,
    OverdueError,
    Reply,
    UnreachableError,
    UpstreamError,
)
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.services.sagemaker.endpoints.fleet import Variant
from sagemaker_byoc.region.services.sagemaker.endpoints.hosted_models import (
    HostedModels,
    LoadError,
)
from sagemaker_byoc.region.services.sagemaker.endpoints.instance import GROUP, Instance
from sagemaker_byoc.region.services.sagemaker_runtime.eventstream import EventStream
from sagemaker_byoc.region.wire.http import Request, Response
from sagemaker_byoc.region.wire.operations import AwsError

_PREFIX = "x-amzn-sagemaker-"
CUSTOM_ATTRIBUTES = hosting.CUSTOM_ATTRIBUTES.value.lower()
INFERENCE_ID = hosting.INFERENCE_ID.value.lower()
TARGET_MODEL = hosting.TARGET_MODEL.value.lower()
TARGET_VARIANT = hosting.TARGET_VARIANT.value.lower()
TARGET_CONTAINER = hosting.TARGET_CONTAINER.value.lower()
SESSION_ID = hosting.SESSION_ID.value.lower()
STREAM_ACCEPT = f"{_PREFIX}accept"
STREAM_CONTENT_TYPE = "X-Amzn-SageMaker-Content-Type"
NEW_SESSION = b"x-amzn-sagemaker-new-session-id"
CLOSED_SESSION = b"x-amzn-sagemaker-closed-session-id"
INVOKED_VARIANT = "x-Amzn-Invoked-Production-Variant"

_FORWARDED = frozenset(
    {
        CUSTOM_ATTRIBUTES,
        INFERENCE_ID,
        TARGET_MODEL,
        TARGET_VARIANT,
        TARGET_CONTAINER,
        SESSION_ID,
        f"{_PREFIX}enable-explanations",
        f"{_PREFIX}inference-component",
        f"{_PREFIX}prefix-aware-id",
    }
)
BACK = {
    CUSTOM_ATTRIBUTES.encode(): hosting.CUSTOM_ATTRIBUTES.value,
    NEW_SESSION: "X-Amzn-SageMaker-New-Session-Id",
    CLOSED_SESSION: "X-Amzn-SageMaker-Closed-Session-Id",
}
_LENGTHS = {
    CUSTOM_ATTRIBUTES: hosting.CUSTOM_ATTRIBUTES_LENGTH.value,
    INFERENCE_ID: hosting.INFERENCE_ID_LENGTH.value,
}
_START_LINE = b"POST /invocations"
_START = _START_LINE + b" HTTP/1.1\r\nhost: model\r\ncontent-length: "


def request_head(headers: Mapping[str, str], length: int, *, is_stream: bool) -> bytes:
    """Return the head of the container's request; the names of `headers` are in lower case.

    Raise AwsError (ValidationError) for a value that SageMaker refuses.
    """
    lines = [f"{length}"]
    content_type = headers.get("content-type")
    if content_type is not None:
        lines.append(f"content-type: {content_type}")
    accept = headers.get(STREAM_ACCEPT if is_stream else "accept")
    if accept is not None:
        lines.append(f"accept: {accept}")
    for name, value in headers.items():
        if name in _FORWARDED:
            most = _LENGTHS.get(name)
            if most is not None and not (len(value) <= most and value.isascii()):
                raise AwsError(
                    "ValidationError",
                    f"The header {name} must have at most {most} visible ASCII characters",
                )
            lines.append(f"{name}: {value}")
    return _START + "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def next_head(first: bytes, content_type: str, length: int) -> bytes:
    """Return the head for the next container of a pipeline, whose request is the last answer."""
    lines = first.rstrip(b"\r\n").split(b"\r\n")[3:]
    kept = [line for line in lines if not line.startswith(b"content-type:")]
    start = _START + f"{length}\r\ncontent-type: {content_type}".encode("latin-1")
    return b"\r\n".join([start, *kept]) + b"\r\n\r\n"


def response_headers(
    reply: Reply, variant: str, request_id: str, *, is_stream: bool
) -> dict[str, str]:
    """Return the headers of a successful answer."""
    found = {INVOKED_VARIANT: variant, "x-amzn-RequestId": request_id}
    for name, value in reply.headers:
        if name == b"content-type":
            found[STREAM_CONTENT_TYPE if is_stream else "Content-Type"] = value.decode("latin-1")
        elif name in BACK:
            found[BACK[name]] = value.decode("latin-1")
    if is_stream:
        found["Content-Type"] = "application/vnd.amazon.eventstream"
    return found


MESSAGE_LIMIT = 8192
"""Characters of the container's answer in a ModelError, at most."""


class ModelFailure(Exception):  # noqa: N818 - it carries an answer
    """Ends an invocation with the answer that it carries."""

    def __init__(self, response: Response) -> None:
        self.response = response
        super().__init__()


@dataclass(slots=True, kw_only=True)
class Call:
    """One invocation. `instance` counts it already; `seconds` limits the whole of it."""

    account: Account
    endpoint: str
    variant: Variant
    instance: Instance
    request: Request
    head: bytes
    body: bytes
    is_stream: bool
    seconds: float
    entered: HostedModels | None = field(default=None, init=False)
    """The models of a multi-model container while one of them is in use."""

    async def run(self) -> Response:
        """Raise UnreachableError or BusyError if a container could not be asked, or AwsError."""
        try:
            response = await self._pass_through()
        except ModelFailure as failure:
            response = failure.response
        except BaseException:
            self._leave()
            raise
        if not isinstance(response.body, EventStream):  # which calls `_leave` at its end
            self._leave()
        return response

    def _leave(self) -> None:
        if self.entered is not None:
            self.entered.leave(self.request.headers[TARGET_MODEL])
        self.instance.leave()

    async def _pass_through(self) -> Response:
        deadline = asyncio.get_running_loop().time() + self.seconds
        names = self._containers()
        head, body, left = self.head, self.body, self.seconds
        if self.instance.models is not None:
            model = await self._enter(self.instance.models, names[0])
            head = head.replace(_START_LINE, b"POST /models/%b/invoke" % model.encode(), 1)
            left = deadline - asyncio.get_running_loop().time()
        for name in names[:-1]:
            reply = await self._begin(name, head, body, left)
            body = await self._rest(name, reply)
            content_type = reply.header(b"content-type") or "application/octet-stream"
            head = next_head(self.head, content_type, len(body))
            left = deadline - asyncio.get_running_loop().time()
        name = names[-1]
        reply = await self._begin(name, head, body, left)
        back = response_headers(
            reply, self.variant.plan.name, self.request.id, is_stream=self.is_stream
        )
        if self.is_stream:
            return Response(headers=back, body=EventStream(reply, self._leave))
        return Response(headers=back, body=await self._rest(name, reply))

    async def _enter(self, models: HostedModels, container: str) -> str:
        """Return the container's name for the model that the request names."""
        try:
            found = await models.enter(self.request.headers[TARGET_MODEL], self.seconds)
        except LoadError as error:
            place = Place(self.account, self.endpoint, container)
            failure = refused(self.request, place, error.status, error.body)
            raise ModelFailure(failure) from error
        except (UnreachableError, BusyError):
            raise
        except UpstreamError as error:
            raise self._unfinished(container, 0, error) from error
        self.entered = models
        return found

    def _containers(self) -> list[str]:
        """Return the names of the containers to ask, in order. Raise AwsError."""
        plan = self.variant.plan
        target = self.request.headers.get(TARGET_CONTAINER)
        if self.instance.models is not None:
            if not self.request.headers.get(TARGET_MODEL):
                raise AwsError(
                    "ValidationError",
                    f"Request {self.request.id} is missing a target model header: endpoint "
                    f"{self.endpoint} has many models. Give a TargetModel",
                )
        elif TARGET_MODEL in self.request.headers:
            raise self._refusal(
                "is not a multi-model endpoint and does not support target model header"
            )
        if not plan.is_direct:
            if target is not None:
                raise self._refusal(
                    "is not a multi-container endpoint with direct invocation and does not "
                    "support target container hostname"
                )
            return [*self.instance.pools]
        if target not in self.instance.pools:
            names = ", ".join(self.instance.pools)
            if target is None:
                raise self._refusal(
                    f"needs a TargetContainerHostname in each request, one of {names}"
                )
            raise self._refusal(f"has no container with the hostname {target}. It has {names}")
        return [target]

    def _refusal(self, text: str) -> AwsError:
        return AwsError("ValidationError", f"Endpoint {self.endpoint} {text}.")

    async def _begin(self, name: str, head: bytes, body: bytes, timeout: float) -> Reply:
        """Send the request and return the start of a successful answer."""
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
        raise ModelFailure(refused(self.request, place, reply.status, text))

    async def _rest(self, name: str, reply: Reply) -> bytes:
        try:
            return await reply.read(hosting.API_PAYLOAD.value)
        except UpstreamError as error:
            raise self._unfinished(name, reply.status, error) from error

    def _unfinished(self, name: str, status: int, error: UpstreamError) -> ModelFailure:
        place = Place(self.account, self.endpoint, name)
        return ModelFailure(unfinished(self.request, place, status, error))


@dataclass(frozen=True, slots=True)
class Place:
    """The container that was asked."""

    account: Account
    endpoint: str
    container: str

    @property
    def hint(self) -> str:
        region, group = self.account.region, GROUP + self.endpoint
        return (
            f"See https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}"
            f"#logEventViewer:group={group} in account {self.account.id} for more information."
        )

    @property
    def log_arn(self) -> str:
        return self.account.arn("logs", f"log-group:{GROUP}{self.endpoint}")


def refused(request: Request, place: Place, status: int, body: bytes) -> Response:
    """Return the ModelError of a container that answered with an error."""
    text = body[: 4 * MESSAGE_LIMIT].decode("utf-8", "replace")[:MESSAGE_LIMIT]
    side = "client" if status < 500 else "server"
    message = f'Received {side} error ({status}) from {place.container} with message "{text}".'
    return _response(request, place, status, text, f"{message} {place.hint}")


def unfinished(request: Request, place: Place, status: int, error: UpstreamError) -> Response:
    """Return the ModelError of an incomplete answer; `status` is 0 if no status came."""
    if isinstance(error, OverdueError):
        text = (
            "Your invocation timed out while waiting for a response from container "
            f"{place.container}. Review the latency metrics for each container in Amazon "
            "CloudWatch, resolve the issue, and try again."
        )
        message = f'Received server error (0) from {place.container} with message "{text}"'
        return _response(request, place, 0, text, f"{message} {place.hint}")
    if status:
        message = (
            f"Received server error ({status}) from {place.container} and could not load the "
            f"entire response body. {place.hint}"
        )
        return _response(request, place, status, str(error), message)
    text = f"The container did not answer: {error}"
    message = f'Received server error (0) from {place.container} with message "{text}".'
    return _response(request, place, 0, text, f"{message} {place.hint}")


def _response(request: Request, place: Place, status: int, original: str, text: str) -> Response:
    body = {
        "ErrorCode": "CLIENT_ERROR_FROM_MODEL"
        if 400 <= status < 500
        else "SERVER_ERROR_FROM_MODEL",
        "LogStreamArn": place.log_arn,
        "Message": text,
        "OriginalMessage": original,
        "OriginalStatusCode": status,
    }
    return Response(
        status=424,
        headers={
            "Content-Type": "application/json",
            "x-amzn-ErrorType": "ModelError",
            "x-amzn-RequestId": request.id,
        },
        body=json.dumps(body).encode(),
    )
