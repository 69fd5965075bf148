"""AWS JSON 1.1 (and 1.0): one POST per operation, named by X-Amz-Target.

Errors of other protocols are written here too, if they are JSON.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from botocore.model import ListShape, MapShape, Shape, StructureShape

from sagemaker_byoc.region.wire.http import (
    Request,
    Response,
    json_response,
    read_document,
)
from sagemaker_byoc.region.wire.models import Service, has_query_codes
from sagemaker_byoc.region.wire.operations import AwsError

BODY_LIMIT = 8 << 20
_TYPE = "application/x-amz-json-1.1"
_KINDS = {
    str: "STRING_VALUE",
    bool: "TRUE_VALUE",
    int: "NUMBER_VALUE",
    float: "DECIMAL_VALUE",
    list: "START_ARRAY",
    dict: "START_OBJECT",
    type(None): "NULL_VALUE",
}


@dataclass(frozen=True, slots=True)
class JsonService:
    """A Handler that reads, validates, calls and answers for one service."""

    service: Service

    async def __call__(self, request: Request) -> Response:
        name = request.headers.get("x-amz-target", "").rpartition(".")[2]
        data = await read_document(request, BODY_LIMIT)
        with query_codes(self.service):
            model, result = await self.service.call(name, lambda shape: decode(shape, _loads(data)))
        return respond(request, encode(model.output_shape, result) if model.output_shape else {})


@contextmanager
def query_codes(service: Service) -> Iterator[None]:
    """Send the code of an error in a header too, if the service spoke the query protocol once."""
    try:
        yield
    except AwsError as error:
        if has_query_codes(service.name):
            side = "Sender" if error.status < 500 else "Receiver"
            error.headers["x-amzn-query-error"] = f"{error.code};{side}"
        raise


def respond(
    request: Request,
    document: object,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    sent = request.headers.get("content-type", "")
    headers = {
        **(headers or {}),
        "Content-Type": sent if sent.startswith("application/x-amz-json-") else _TYPE,
        "x-amzn-RequestId": request.id,
    }
    return json_response(document, status=status, headers=headers)


def render_error(request: Request, error: AwsError) -> Response:
    document = {"__type": error.code, "message": error.message}
    return respond(request, document, status=error.status, headers=error.headers)


def render_rest_error(request: Request, error: AwsError) -> Response:
    """Write REST-JSON, as sagemaker-runtime does."""
    return json_response(
        {"message": error.message, "Message": error.message},
        status=error.status,
        headers={"x-amzn-ErrorType": error.code, "x-amzn-RequestId": request.id},
    )


def render_registry_error(_request: Request, error: AwsError) -> Response:
    """Write the body of the distribution protocol, which `docker push` shows to its user."""
    headers = {name: value for name, value in error.headers.items() if name != "Content-Length"}
    return json_response(
        {"errors": [{"code": error.code, "message": error.message}]},
        status=error.status,
        headers={"Docker-Distribution-Api-Version": "registry/2.0", **headers},
    )


def _loads(data: bytes) -> object:
    if not data.strip():
        return {}
    try:
        document: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise AwsError("SerializationException", f"The body is not JSON: {error}") from error
    return document


def decode(shape: Shape, value: object, path: str = "") -> Any:
    """Return a JSON value as `shape` types it, without nulls and members that `shape` lacks."""
    if isinstance(shape, StructureShape):
        found = _expect(dict, shape, value, path)
        if shape.is_document_type:
            return found
        return {
            name: decode(member, found[name], f"{path}.{name}".lstrip("."))
            for name, member in shape.members.items()
            if found.get(name) is not None
        }
    if isinstance(shape, ListShape):
        items = _expect(list, shape, value, path)
        return [
            decode(shape.member, item, f"{path}.{number}") for number, item in enumerate(items, 1)
        ]
    if isinstance(shape, MapShape):
        pairs = _expect(dict, shape, value, path)
        return {key: decode(shape.value, item, f"{path}.{key}") for key, item in pairs.items()}
    return _SCALARS[shape.type_name](shape, value, path)


def _expect(kind: type[Any], shape: Shape, value: object, path: str) -> Any:
    if isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool):
        return value
    where = f" at '{path}'" if path else ""
    raise AwsError(
        "SerializationException",
        f"{_KINDS.get(type(value), 'VALUE')} can not be converted to "
        f"{shape.type_name.capitalize()}{where}",
    )


def _string(shape: Shape, value: object, path: str) -> str:
    found: str = _expect(str, shape, value, path)
    return found


def _integer(shape: Shape, value: object, path: str) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    found: int = _expect(int, shape, value, path)
    return found


def _float(shape: Shape, value: object, path: str) -> float:
    if value in ("NaN", "Infinity", "-Infinity"):
        return float(str(value))
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            text = f"'{path}' is not a number of 64 bits"
            raise AwsError("SerializationException", text) from error
    found: float = _expect(float, shape, value, path)
    return found


def _boolean(shape: Shape, value: object, path: str) -> bool:
    found: bool = _expect(bool, shape, value, path)
    return found


def _blob(shape: Shape, value: object, path: str) -> bytes:
    if isinstance(value, bytes):  # of CBOR
        return value
    try:
        return base64.b64decode(_string(shape, value, path), validate=True)
    except binascii.Error as error:
        raise AwsError("SerializationException", f"'{path}' is not base64: {error}") from error


def _timestamp(shape: Shape, value: object, path: str) -> datetime:
    try:
        if isinstance(value, datetime):  # of CBOR
            return value.astimezone(UTC)
        if isinstance(value, str):
            return datetime.fromisoformat(value).astimezone(UTC)
        return datetime.fromtimestamp(_float(shape, value, path), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise AwsError("SerializationException", f"'{path}' is not a time: {value!r}") from error


_SCALARS: dict[str, Callable[[Shape, object, str], object]] = {
    "string": _string,
    "character": _string,
    "integer": _integer,
    "long": _integer,
    "float": _float,
    "double": _float,
    "boolean": _boolean,
    "blob": _blob,
    "timestamp": _timestamp,
}


def _encode_scalar(shape: Shape, value: object) -> str | float | bool:
    match value:
        case datetime():
            return round(value.timestamp(), 3)
        case bytes():
            return base64.b64encode(value).decode()
        case str() | bool() | int() | float():
            return value
    raise TypeError(f"{shape.name} can't be {value!r}")


Encode: TypeAlias = Callable[[Shape, Any], Any]


def encode(shape: Shape, value: Any, scalar: Encode = _encode_scalar) -> Any:
    """Return the JSON of a result: timestamps in seconds since 1970, blobs in base64, no nulls.

    Another protocol has its own function for scalars.
    Raise TypeError for what `shape` does not have: the mistake is an operation's, not a client's.
    """
    if isinstance(shape, StructureShape):
        if shape.is_document_type:
            return value
        if unknown := value.keys() - shape.members.keys():
            raise TypeError(f"{shape.name} has no {', '.join(sorted(unknown))}")
        return {
            name: encode(shape.members[name], item, scalar)
            for name, item in value.items()
            if item is not None
        }
    if isinstance(shape, ListShape):
        return [encode(shape.member, item, scalar) for item in value]
    if isinstance(shape, MapShape):
        return {key: encode(shape.value, item, scalar) for key, item in value.items()}
    return scalar(shape, value)
