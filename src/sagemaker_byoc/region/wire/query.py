"""AWS query: a form that names its Action, flattened by the service model; XML back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl
from xml.etree.ElementTree import Element, SubElement, tostring

from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape

from sagemaker_byoc.region.wire import models
from sagemaker_byoc.region.wire.errors import AwsError, unknown_operation
from sagemaker_byoc.region.wire.http import Request, Response
from sagemaker_byoc.region.wire.operations import Service

BODY_LIMIT = 1 << 20
_LARGEST_LIST = 1000


class QueryService:
    """A Handler that reads, validates, calls and answers for one service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @property
    def service(self) -> Service:
        return self._service

    async def __call__(self, request: Request) -> Response:
        form = {**request.query, **_form(await request.body.read(BODY_LIMIT))}
        name = form.get("Action", "")
        operation = self._service.operations.get(name)
        if operation is None:
            raise unknown_operation(self._service.name, name, self._service.operations)
        service = models.service_model(self._service.name)
        model = service.operation_model(name)
        parameters: dict[str, Any] = {}
        if model.input_shape is not None:
            parameters = decode(model.input_shape, form, "") or {}
            models.check(self._service.name, model.input_shape, parameters)
        result = await operation(parameters)
        return _respond(_document(model, result, request.id))


def render_error(request: Request, error: AwsError) -> Response:
    root = Element("ErrorResponse")
    body = SubElement(root, "Error")
    SubElement(body, "Type").text = "Sender" if error.status < 500 else "Receiver"
    SubElement(body, "Code").text = error.code
    SubElement(body, "Message").text = error.message
    SubElement(root, "RequestId").text = request.id
    return _respond(root, error.status)


def _respond(root: Element, status: int = 200) -> Response:
    return Response(
        status=status,
        headers={"Content-Type": "text/xml"},
        body=tostring(root, encoding="utf-8", xml_declaration=True),
    )


def _form(data: bytes) -> dict[str, str]:
    return dict(parse_qsl(data.decode(errors="replace"), keep_blank_values=True))


def _document(model: OperationModel, result: dict[str, Any], request_id: str) -> Element:
    root = Element(f"{model.name}Response", {"xmlns": model.service_model.metadata["xmlNamespace"]})
    shape = model.output_shape
    if shape is not None:
        wrapper = shape.serialization.get("resultWrapper")
        encode(shape, result, root if wrapper is None else SubElement(root, wrapper))
    metadata = SubElement(root, "ResponseMetadata")
    SubElement(metadata, "RequestId").text = request_id
    return root


def decode(shape: Shape, form: Mapping[str, str], prefix: str) -> Any:
    """What `form` says of `shape` under `prefix`; None where it says nothing."""
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


def encode(shape: Shape, value: Any, parent: Element) -> None:
    """Append `value` to `parent`. Raises TypeError for members that `shape` does not have."""
    if isinstance(shape, StructureShape):
        if unknown := value.keys() - shape.members.keys():
            raise TypeError(f"{shape.name} has no {', '.join(sorted(unknown))}")
        for name, item in value.items():
            if item is not None:
                _encode_member(
                    shape.members[name], _member_name(shape.members[name], name), item, parent
                )
    elif isinstance(shape, MapShape):
        for key, item in value.items():
            entry = SubElement(parent, "entry")
            SubElement(entry, shape.key.serialization.get("name", "key")).text = key
            encode(
                shape.value, item, SubElement(entry, shape.value.serialization.get("name", "value"))
            )
    else:
        parent.text = _text(shape, value)


def _encode_member(shape: Shape, name: str, value: Any, parent: Element) -> None:
    if not isinstance(shape, ListShape):
        encode(shape, value, SubElement(parent, name))
        return
    flat = shape.serialization.get("flattened")
    folder = parent if flat else SubElement(parent, name)
    item_name = name if flat else shape.member.serialization.get("name", "member")
    for item in value:
        encode(shape.member, item, SubElement(folder, item_name))


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
