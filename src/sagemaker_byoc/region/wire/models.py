"""AWS's service models, as botocore ships them: what they demand of a request, and its call.

A model is loaded when it is first used. A validation error has one sentence per violation,
`Value 'V' at 'path' failed to satisfy constraint: …`, joined by "; " after their number. Paths
begin in lower case and number list members from 1: `inputDataConfig.1.member.channelName`.
"""

from __future__ import annotations

import asyncio
import gzip
import inspect
import json
import re
import unicodedata
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias

from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape

from sagemaker_byoc.region.wire.operations import AwsError, Operations, Parameters

_LOADER = Loader()
_METADATA = re.compile(r'"metadata"\s*:\s*(\{(?:[^{}]|\{[^{}]*\})*\})')
_HEAD = 8192
"""Characters of a model in which its metadata is complete; they are the first member."""


@cache
def service_model(name: str) -> ServiceModel:
    """Return the newest model of `name`, botocore's word for the service (sagemaker, logs, …)."""
    return ServiceModel(_LOADER.load_service_model(name, "service-2"), name)


def has_query_codes(name: str) -> bool:
    """Return whether a service's errors have the codes of the query protocol in every protocol."""
    facts = service_model(name).metadata
    return facts["protocol"] == "query" or "awsQueryCompatible" in facts


@dataclass(frozen=True, slots=True)
class Service:
    """What a service answers. `name` is botocore's: sagemaker, ecr, logs, sts, iam."""

    name: str
    operations: Operations

    async def call(
        self, name: str, read: Callable[[StructureShape], Parameters]
    ) -> tuple[OperationModel, Parameters]:
        """Check the parameters that `read` returns, run the operation, and return its result.

        Raise AwsError for an operation or parameters that are not valid, and what the operation
        raises.
        """
        operation = self.operations.get(name)
        if operation is None:
            raise self._unknown(name)
        model = service_model(self.name).operation_model(name)
        parameters: Parameters = {}
        if model.input_shape is not None:
            parameters = read(model.input_shape)
            check(self.name, model.input_shape, parameters)
        run: Callable[[Parameters], Parameters | Awaitable[Parameters]] = operation
        if inspect.iscoroutinefunction(run):
            return model, await run(parameters)
        result = await asyncio.to_thread(run, parameters)
        return model, await result if inspect.isawaitable(result) else result

    def _unknown(self, operation: str) -> AwsError:
        """Return an error that names the operation, and those that are supported."""
        what = (
            f"{self.name}:{operation}" if operation else f"{self.name} without an operation's name"
        )
        known = ", ".join(sorted(self.operations)) or "none of its operations"
        return AwsError(
            "UnknownOperationException",
            f"{what} is not supported by this local region. Supported of {self.name}: {known}",
        )


def name_of_target(prefix: str) -> str:
    """Return botocore's name of the JSON service whose X-Amz-Target has `prefix`, or `prefix`."""
    found = [name for name, facts in _metadata().items() if facts.get("targetPrefix") == prefix]
    return found[0] if found else prefix


def name_of_scope(scope: str) -> str:
    """Return botocore's name of the service that signs as `scope`; `scope` if it is not one."""
    found = _names_of_scope(scope)
    return found[0] if len(found) == 1 else scope


def rest_operation(scope: str, method: str, path: str) -> tuple[str, str]:
    """Return the service and the operation of a REST request; several services sign as
    `sagemaker`. Return `scope` and "" if they are unknown.
    """
    for name in _names_of_scope(scope):
        model = service_model(name)
        for operation in model.operation_names:
            http = model.operation_model(operation).http
            if http.get("method") == method and _matches(http.get("requestUri", ""), path):
                return name, operation
    return name_of_scope(scope), ""


def _names_of_scope(scope: str) -> list[str]:
    return [
        name
        for name, facts in _metadata().items()
        if facts.get("signingName", facts.get("endpointPrefix")) == scope
    ]


def _matches(template: str, path: str) -> bool:
    if template in {"", "/"}:
        return False
    pattern = re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(template.partition("?")[0]))
    return re.fullmatch(pattern, path) is not None


@cache
def _metadata() -> dict[str, dict[str, Any]]:
    """Return the metadata of every service that botocore knows; slow, so for refusals only."""
    found = {}
    for name in _LOADER.list_available_services("service-2"):
        version = max(_LOADER.list_api_versions(name, "service-2"))
        for folder in _LOADER.search_paths:
            path = Path(folder, name, version, "service-2.json.gz")
            if path.is_file():
                with gzip.open(path, "rt", encoding="utf-8") as file:
                    head = _METADATA.search(file.read(_HEAD))
                if head is not None:
                    found[name] = json.loads(head[1])
    return found


_CODES = {"logs": "InvalidParameterException", "ecr": "InvalidParameterException"}
"""Codes of validation errors that differ from those of the protocol."""
_SIZED = frozenset({"string", "blob", "list", "map"})
_NUMBERS = frozenset({"integer", "long", "float", "double"})
# Java's Unicode categories, which Python's expressions lack: their ASCII members, and one stand-in
# that replaces all the others in the value.
_CATEGORIES = {
    r"\p{Alnum}": "a-zA-Z0-9",
    r"\p{L}": "a-zA-Z",
    r"\p{M}": "\u0300",
    r"\p{N}": "0-9",
    r"\p{P}": r"!-#%-*,-/:;?@\[\\\]_{}",
    r"\p{S}": r"$+<=>\^`|~",
    r"\p{Z}": " ",
}
_STAND_INS = {"L": "a", "M": "\u0300", "N": "0", "P": "!", "S": "+", "Z": " "}
# What Java reads differently from Python: a hyphen after a class, a pair of surrogates as one
# character, and a quantifier on "the end".
_DIALECT = (
    (re.compile(r"(\\[wds])-(?=[^\]])"), r"\1\\-"),
    (re.compile(r"\\uD800\\uDC00-\\uDBFF\\uDFFF", re.IGNORECASE), r"\\U00010000-\\U0010FFFF"),
    (re.compile(r"\$\{\d+,\d+\}"), "$"),
)


def check(service: str, shape: StructureShape, values: dict[str, Any]) -> None:
    """Raise AwsError, with everything that is wrong in it, unless `values` satisfy `shape`."""
    found = list(_violations(shape, values, ""))
    if found:
        plural = "s" if len(found) > 1 else ""
        usual = "ValidationError" if has_query_codes(service) else "ValidationException"
        code = _CODES.get(service, usual)
        raise AwsError(code, f"{len(found)} validation error{plural} detected: {'; '.join(found)}")


def _violations(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if isinstance(shape, StructureShape):
        yield from _of_structure(shape, value, path)
        return
    for name, bound in broken(shape, value):
        yield _sentence(shape, value, path, _WORDS[name](shape, bound))
    if isinstance(shape, ListShape):
        yield from _of_list(shape, value, path)
    elif isinstance(shape, MapShape):
        yield from _of_map(shape, value, path)


def _of_structure(shape: StructureShape, value: dict[str, Any], path: str) -> Iterator[str]:
    for name, member in shape.members.items():
        below = f"{path}.{_lower(name)}" if path else _lower(name)
        if value.get(name) is not None:
            yield from _violations(member, value[name], below)
        elif name in shape.required_members:
            yield f"Value null at '{below}' failed to satisfy constraint: Member must not be null"


def _of_list(shape: ListShape, value: list[Any], path: str) -> Iterator[str]:
    if isinstance(shape.member, StructureShape | ListShape | MapShape):
        for number, item in enumerate(value, 1):
            yield from _violations(shape.member, item, f"{path}.{number}.member")
    elif any(any(broken(shape.member, item)) for item in value):
        yield _sentence(shape, value, path, f"Member must satisfy constraint: {_all(shape.member)}")


def _of_map(shape: MapShape, value: dict[str, Any], path: str) -> Iterator[str]:
    if any(any(broken(shape.key, key)) for key in value):
        yield _sentence(shape, value, path, f"Map keys must satisfy constraint: {_all(shape.key)}")
    if isinstance(shape.value, StructureShape | ListShape | MapShape):
        for key, item in value.items():
            yield from _violations(shape.value, item, f"{path}.{key}.member")
    elif any(any(broken(shape.value, item)) for item in value.values()):
        constraint = f"Map value must satisfy constraint: {_all(shape.value)}"
        yield _sentence(shape, value, path, constraint)


Constraint: TypeAlias = tuple[str, Any]
"""`max`, `min`, `enum` or `pattern`, and its bound."""


def broken(shape: Shape, value: Any) -> Iterator[Constraint]:
    """Yield the constraints of `shape` itself that `value` breaks."""
    return (each for each in _constraints(shape) if not _holds(each, shape, value))


def _constraints(shape: Shape) -> Iterator[Constraint]:
    for name in ("max", "min"):
        if shape.type_name in _SIZED | _NUMBERS and shape.metadata.get(name) is not None:
            yield name, shape.metadata[name]
    for name in ("enum", "pattern"):
        if shape.metadata.get(name):
            yield name, shape.metadata[name]


def _holds(constraint: Constraint, shape: Shape, value: Any) -> bool:
    name, bound = constraint
    if name == "enum":
        return value in bound
    if name == "pattern":
        return value is None or matches(bound, value)
    size = 0 if value is None else len(value) if shape.type_name in _SIZED else value
    return bool(size <= bound if name == "max" else size >= bound)


def _all(shape: Shape) -> str:
    texts = (_WORDS[name](shape, bound) for name, bound in _constraints(shape))
    return f"[{', '.join(texts)}]"


def _of_size(words: str, shape: Shape, bound: Any) -> str:
    what = "length" if shape.type_name in _SIZED else "value"
    return f"Member must have {what} {words} than or equal to {bound}"


_WORDS: Mapping[str, Callable[[Shape, Any], str]] = {
    "max": partial(_of_size, "less"),
    "min": partial(_of_size, "greater"),
    "enum": lambda _, bound: f"Member must satisfy enum value set: [{', '.join(bound)}]",
    "pattern": lambda _, bound: f"Member must satisfy regular expression pattern: {bound}",
}


def matches(pattern: str, value: str) -> bool:
    """Return whether `value` matches a model's Java expression."""
    expression = compile_pattern(pattern)
    if expression is None:
        return True
    if r"\p{" in pattern and not value.isascii():
        value = "".join(_stand_in(character) for character in value)
    return expression.fullmatch(value) is not None


def _stand_in(character: str) -> str:
    if character.isascii():
        return character
    return _STAND_INS.get(unicodedata.category(character)[0], character)


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> re.Pattern[str] | None:
    """Return a model's Java expression; None, which accepts all, if Python has no equivalent."""
    for category, characters in _CATEGORIES.items():
        pattern = pattern.replace(category, characters)
    for java, python in _DIALECT:
        pattern = java.sub(python, pattern)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return re.compile(pattern, re.ASCII)
    except re.error:
        return None


def _sentence(shape: Shape, value: Any, path: str, constraint: str) -> str:
    shown = "***" if shape.metadata.get("sensitive") else _show(value)
    return f"Value '{shown}' at '{path}' failed to satisfy constraint: {constraint}"


def _show(value: Any) -> str:
    """Return a value as Java prints it."""
    match value:
        case bool():
            return str(value).lower()
        case bytes():
            return f"{len(value)} bytes"
        case datetime():
            return value.isoformat()
        case list():
            return f"[{', '.join(_show(item) for item in value)}]"
        case dict():
            return f"{{{', '.join(f'{key}={_show(item)}' for key, item in value.items())}}}"
    return str(value)


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:]
