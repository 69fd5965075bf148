"""AWS query: a form with an Action and flattened members; the answer is XML."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape

from sagemaker_byoc.region.wire.http import Request, Response, read_document
from sagemaker_byoc.region.wire.models import Service
from sagemaker_byoc.region.wire.operations import AwsError
from sagemaker_byoc.region.wire.xml import DECLARATION, element, escaped

BODY_LIMIT = 1 << 20
_LARGEST_LIST = 1000


@dataclass(frozen=True, slots=True)
class QueryService:
    """A Handler that reads, validates, calls and answers for one service."""

    service: Service

    async def __call__(self, request: Request) -> Response:
        body = (await read_document(request, BODY_LIMIT)).decode(errors="replace")
        form = {**request.query, **dict(parse_qsl(body, keep_blank_values=True))}
        model, result = await self.service.call(
            form.get("Action", ""), lambda shape: decode(shape, form, "") or {}
        )
        return _respond(_document(model, result, request.id))


def render_error(request: Request, error: AwsError) -> Response:
    entries = {
        "Type": "Sender" if error.status < 500 else "Receiver",
        "Code": error.code,
        "Message": error.message,
    }
    found = element("Error", [element(name, text) for name, text in entries.items()])
    return _respond(
        element("ErrorResponse", [found, element("RequestId", request.id)]), error.status
    )


def _respond(document: str, status: int = 200) -> Response:
    return Response(
        status=status,
        headers={"Content-Type": "text/xml"},
        body=(DECLARATION + document).encode("utf-8", "replace"),
    )


def _document(model: OperationModel, result: dict[str, Any], request_id: str) -> str:
    namespace = model.service_model.metadata["xmlNamespace"]
    content = ""
    shape = model.output_shape
    if shape is not None:
        content = encode(shape, result)
        if wrapper := shape.serialization.get("resultWrapper"):
            content = element(wrapper, [content])
    metadata = element("ResponseMetadata", [element("RequestId", request_id)])
    name = f"{model.name}Response"
    return f'<{name} xmlns="{namespace}">{content}{metadata}</{name}>'


def decode(shape: Shape, form: Mapping[str, str], prefix: str) -> Any:
    """Return what `form` has of `shape` under `prefix`; None if it has nothing."""
    if isinstance(shape, StructureShape):
        found = {}
        for name, member in shape.members.items():
            value = decode(member, form, _join(prefix, _member_name(member, name)))
            if value is not None:
                found[name] = value
        return found or None
    if isinstance(shape, ListShape):
        return _decode_list(shape, form, prefix)
    if isinstance(shape, MapShape):
        return _decode_map(shape, form, prefix)
    return _decode_scalar(shape, form.get(prefix), prefix)


def _decode_list(shape: ListShape, form: Mapping[str, str], prefix: str) -> list[Any] | None:
    flat = shape.serialization.get("flattened")
    stem = prefix if flat else _join(prefix, shape.member.serialization.get("name", "member"))
    items = list(_numbered(shape.member, form, stem))
    return items or ([] if prefix in form else None)


def _decode_map(shape: MapShape, form: Mapping[str, str], prefix: str) -> dict[str, Any] | None:
    stem = prefix if shape.serialization.get("flattened") else _join(prefix, "entry")
    key = shape.key.serialization.get("name", "key")
    value = shape.value.serialization.get("name", "value")
    pairs = {}
    for number in range(1, _LARGEST_LIST + 1):
        name = form.get(f"{stem}.{number}.{key}")
        if name is None:
            break
        pairs[name] = decode(shape.value, form, f"{stem}.{number}.{value}")
    return pairs or None


def _numbered(shape: Shape, form: Mapping[str, str], stem: str) -> Iterator[Any]:
    for number in range(1, _LARGEST_LIST + 1):
        item = decode(shape, form, f"{stem}.{number}")
        if item is None:
            return
        yield item


def _decode_scalar(shape: Shape, text: str | None, name: str) -> Any:
    if text is None:
        return None
    convert = _SCALARS.get(shape.type_name, str)
    try:
        return convert(text)
    except (ValueError, KeyError, OverflowError) as error:
        raise AwsError(
            "MalformedInput", f"{name} is {text!r}, which is not a valid {shape.type_name}"
        ) from error


_SCALARS: Mapping[str, Callable[[str], object]] = {
    "integer": int,
    "long": int,
    "float": float,
    "double": float,
    "boolean": lambda text: {"true": True, "false": False}[text.lower()],
    "timestamp": lambda text: datetime.fromisoformat(text).astimezone(UTC),
    "blob": str.encode,
}


def encode(shape: Shape, value: Any) -> str:
    """Return the XML within the element of `value`.

    Raise TypeError for members that `shape` does not have.
    """
    if isinstance(shape, StructureShape):
        if unknown := value.keys() - shape.members.keys():
            raise TypeError(f"{shape.name} has no {', '.join(sorted(unknown))}")
        return "".join(
            _encode_member(shape.members[name], _member_name(shape.members[name], name), item)
            for name, item in value.items()
            if item is not None
        )
    if isinstance(shape, MapShape):
        key_name = shape.key.serialization.get("name", "key")
        value_name = shape.value.serialization.get("name", "value")
        return "".join(
            element(
                "entry", [element(key_name, key), element(value_name, [encode(shape.value, item)])]
            )
            for key, item in value.items()
        )
    return escaped(_text(shape, value))


def _encode_member(shape: Shape, name: str, value: Any) -> str:
    if not isinstance(shape, ListShape):
        return element(name, [encode(shape, value)])
    is_flat = shape.serialization.get("flattened")
    item_name = name if is_flat else shape.member.serialization.get("name", "member")
    items = [element(item_name, [encode(shape.member, item)]) for item in value]
    return "".join(items) if is_flat else element(name, items)


def _text(shape: Shape, value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case str() | int() | float():
            return str(value)
    raise TypeError(f"{shape.name} can't be {value!r}")


def _member_name(shape: Shape, name: str) -> str:
    found: str = shape.serialization.get("name", name)
    return found


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
