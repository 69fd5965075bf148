"""Smithy RPC v2 CBOR: one POST to /service/NAME/operation/OPERATION.

SDKs of other languages speak it to CloudWatch; boto3 speaks JSON. Values are those of JSON, but
for times and blobs, which CBOR has types for. Source: Smithy 2.0, "Smithy RPC v2 CBOR protocol".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

import cbor2
from botocore.model import Shape

from sagemaker_byoc.region.wire import json11
from sagemaker_byoc.region.wire.http import Request, Response, read_document
from sagemaker_byoc.region.wire.models import Service
from sagemaker_byoc.region.wire.operations import AwsError

_HEADERS = {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}
_OTHER_TAGS = (
    *(0, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000),
    55799,
)
"""All that cbor2 builds values from, except for tag 1: the protocol has no other. A small body of
shared references (28, 29) stands for millions of values."""


def _refuse(*_: Any) -> NoReturn:
    raise ValueError("the only tag of this protocol is 1, a time")


_DECODERS = dict.fromkeys(_OTHER_TAGS, _refuse)


@dataclass(frozen=True, slots=True)
class CborService:
    """A Handler that reads, validates, calls and answers for one service."""

    service: Service

    async def __call__(self, request: Request) -> Response:
        name = request.path.rpartition("/")[2]
        data = await read_document(request, json11.BODY_LIMIT)
        with json11.query_codes(self.service):
            model, result = await self.service.call(
                name, lambda shape: json11.decode(shape, _loads(data))
            )
        shape = model.output_shape
        document = {} if shape is None else json11.encode(shape, result, _keep)
        return _respond(request, document)


def render_error(request: Request, error: AwsError) -> Response:
    response = _respond(request, {"__type": error.code, "message": error.message}, error.status)
    response.headers |= error.headers
    return response


def _respond(request: Request, document: object, status: int = 200) -> Response:
    return Response(
        status=status,
        headers={**_HEADERS, "x-amzn-RequestId": request.id},
        body=cbor2.dumps(document, datetime_as_timestamp=True, timezone=UTC),
    )


def _loads(data: bytes) -> object:
    if not data:
        return {}
    try:
        document: object = cbor2.loads(data, tag_hook=_refuse, semantic_decoders=_DECODERS)
    except (cbor2.CBORDecodeError, ValueError, OverflowError, TypeError) as error:
        why = f"{error}: {error.__cause__}" if error.__cause__ else f"{error}"
        raise AwsError("SerializationException", f"The body is not CBOR: {why}") from error
    return document


def _keep(shape: Shape, value: object) -> object:
    match value:
        case datetime() | bytes() | str() | bool() | int() | float():
            return value
    raise TypeError(f"{shape.name} can't be {value!r}")
