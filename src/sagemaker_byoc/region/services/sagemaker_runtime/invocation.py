"""sagemaker-runtime: chooses the instance of a variant for each invocation."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from urllib.parse import unquote

from sagemaker_byoc.contract import http as hosting
from sagemaker_byoc.region.containers.http_reply import BusyError, UnreachableError
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.records import now
from sagemaker_byoc.region.services.sagemaker.endpoints.capture import Capture, Exchange
from sagemaker_byoc.region.services.sagemaker.endpoints.endpoint import Endpoint
from sagemaker_byoc.region.services.sagemaker.endpoints.fleet import Fleet, Variant
from sagemaker_byoc.region.services.sagemaker.endpoints.instance import Instance
from sagemaker_byoc.region.services.sagemaker_runtime.call import (
    BACK,
    CLOSED_SESSION,
    CUSTOM_ATTRIBUTES,
    INFERENCE_ID,
    NEW_SESSION,
    SESSION_ID,
    TARGET_VARIANT,
    Call,
    request_head,
)
from sagemaker_byoc.region.services.sagemaker_runtime.eventstream import EventStream
from sagemaker_byoc.region.services.sagemaker_runtime.invocation_metrics import (
    InvocationMetrics,
    model_status,
)
from sagemaker_byoc.region.wire.http import Request, Response
from sagemaker_byoc.region.wire.operations import (
    AwsError,
    EntityTooLargeError,
    invocation_too_large,
)

ROUTES = {"invocations": False, "invocations-response-stream": True}
"""Whether the answer is a stream."""
_ATTEMPTS = 8
"""Instances that are tried one after the other if they can't be reached."""


@dataclass(frozen=True, slots=True)
class Policy:
    capture: Capture | None = None
    """Called after each answer of an endpoint that captures its traffic."""
    metrics: InvocationMetrics | None = None
    seconds: float = hosting.INVOCATION_TIMEOUT.value
    stream_seconds: float = hosting.STREAM_TIMEOUT.value


class Invocations:
    """The Handler of `/endpoints/…`. Raises AwsError."""

    def __init__(self, endpoints: Mapping[str, Endpoint], account: Account, policy: Policy) -> None:
        self._endpoints = endpoints
        self._account = account
        self._policy = policy

    async def __call__(self, request: Request) -> Response:
        began = perf_counter()
        name, is_stream = _route(request)
        self._fleet(name)
        body = await _read(request)
        head = request_head(request.headers, len(body), is_stream=is_stream)
        for _ in range(_ATTEMPTS):
            # No await before the instance counts the call: the fleet is the current one, and an
            # update lets the call finish.
            endpoint, fleet = self._fleet(name)
            variant, instance = _choose(endpoint, fleet, request)
            instance.enter()
            call = Call(
                account=self._account,
                endpoint=name,
                variant=variant,
                instance=instance,
                request=request,
                head=head,
                body=body,
                is_stream=is_stream,
                seconds=self._policy.stream_seconds if is_stream else self._policy.seconds,
            )
            asked = perf_counter()
            try:
                response = await call.run()
            except UnreachableError:
                instance.suspect()
                continue
            except BusyError as error:
                raise AwsError("ServiceUnavailable", f"{name}: {error}", status=503) from error
            self._note(call, response, asked, asked - began)
            if response.status == 200:
                self._remember(endpoint, call, response)
            return response
        raise _unavailable(name)

    def _fleet(self, name: str) -> tuple[Endpoint, Fleet]:
        endpoint = self._endpoints.get(name)
        if endpoint is None or endpoint.fleet is None:
            raise AwsError(
                "ValidationError", f"Endpoint {name} of account {self._account.id} not found."
            )
        return endpoint, endpoint.fleet

    def _note(self, call: Call, response: Response, asked: float, overhead: float) -> None:
        """Note what the invocation took, for CloudWatch: a stream takes until its end."""
        metrics = self._policy.metrics
        if metrics is None:
            return
        endpoint, variant = call.endpoint, call.variant
        stream = response.body
        if isinstance(stream, EventStream):
            stream.then(
                lambda has_failed: metrics.note(
                    endpoint, variant, 0 if has_failed else 200, perf_counter() - asked, overhead
                )
            )
        else:
            seconds = perf_counter() - asked
            metrics.note(endpoint, variant, model_status(response), seconds, overhead)

    def _remember(self, endpoint: Endpoint, call: Call, response: Response) -> None:
        """Note sessions that it opened or ended, and capture the exchange if the endpoint does."""
        opened = response.headers.get(BACK[NEW_SESSION])
        if opened is not None:
            endpoint.sessions.open(opened, call.variant, call.instance)
        ended = response.headers.get(BACK[CLOSED_SESSION])
        if ended is not None:
            endpoint.sessions.end(ended)
        capture = self._policy.capture
        if capture is not None and endpoint.capture and isinstance(response.body, bytes):
            exchange = Exchange(
                config=endpoint.capture,
                endpoint=endpoint.name,
                variant=call.variant.plan.name,
                request_id=call.request.id,
                time=now(),
                inference_id=call.request.headers.get(INFERENCE_ID),
                custom_attributes=call.request.headers.get(CUSTOM_ATTRIBUTES),
                request_type=call.request.headers.get("content-type"),
                request=call.body,
                response_type=response.headers.get("Content-Type"),
                response=response.body,
            )
            asyncio.get_running_loop().call_soon(capture, exchange)


def _route(request: Request) -> tuple[str, bool]:
    """Return the endpoint's name, and whether the answer is a stream. Raise AwsError."""
    parts = request.target.split("/")
    is_stream = ROUTES.get(parts[3]) if len(parts) == 4 else None
    if is_stream is None:
        raise AwsError(
            "UnknownOperationException",
            f"{request.target} is not supported by this local region, which answers "
            "/endpoints/NAME/invocations and /endpoints/NAME/invocations-response-stream",
            status=404,
        )
    if request.method != "POST":
        raise AwsError("UnknownOperationException", "Invoke an endpoint with POST", status=405)
    return unquote(parts[2]), is_stream


async def _read(request: Request) -> bytes:
    try:
        return await request.body.read(hosting.API_PAYLOAD.value)
    except EntityTooLargeError as error:
        raise invocation_too_large() from error


def _choose(endpoint: Endpoint, fleet: Fleet, request: Request) -> tuple[Variant, Instance]:
    session = request.headers.get(SESSION_ID)
    place = None if session is None else endpoint.sessions.find(session)
    if place is not None:
        return place
    target = request.headers.get(TARGET_VARIANT)
    variant = fleet.choose(target)
    if variant is None and target is not None:
        raise AwsError(
            "ValidationError", f"Variant {target} not found for endpoint {endpoint.name}."
        )
    instance = None if variant is None else variant.choose()
    if variant is None or instance is None:
        raise _unavailable(endpoint.name)
    return variant, instance


def _unavailable(name: str) -> AwsError:
    return AwsError(
        "ServiceUnavailable",
        f"No instance of endpoint {name} is healthy; its log stream says why.",
        status=503,
    )
