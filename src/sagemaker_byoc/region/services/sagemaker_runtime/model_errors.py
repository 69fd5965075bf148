"""ModelError: what a caller hears of an answer that is no good, in SageMaker's sentences."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.services.sagemaker.endpoints.serving_container import GROUP
from sagemaker_byoc.region.services.sagemaker_runtime.upstream.errors import (
    OverdueError,
    UpstreamError,
)
from sagemaker_byoc.region.wire.http import Request, Response

MESSAGE_LIMIT = 8192
"""Characters of the container's answer that are passed on."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an invocation went."""

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
    """The container answered with an error of its own."""
    text = body[: 4 * MESSAGE_LIMIT].decode("utf-8", "replace")[:MESSAGE_LIMIT]
    side = "client" if status < 500 else "server"
    message = f'Received {side} error ({status}) from {place.container} with message "{text}".'
    return _response(request, place, status, text, f"{message} {place.hint}")


def unfinished(request: Request, place: Place, status: int, error: UpstreamError) -> Response:
    """It gave no whole answer; `status` is what had come of it, or 0."""
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
