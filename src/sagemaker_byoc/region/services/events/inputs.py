"""What a target gets: the event, a constant, a part of the event, or a template filled with parts.

Parameters of a target may name parts of the event too. Source: EventBridge user guide,
"EventBridge input transformation" and "Target parameters". Paths are its subset of
JSONPath: `$.detail.name`, `$['detail-type']`, `$.resources[0]`, `$.detail.items[*].name`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from sagemaker_byoc.region.wire.operations import AwsError, Parameters

Event: TypeAlias = Mapping[str, Any]
"""An event's envelope."""
Render: TypeAlias = Callable[[Event], str]
Fill: TypeAlias = Callable[[Event], Parameters]

_STEP = re.compile(
    r"""\.(?P<name>[\w-]+) | \[(?:'(?P<single>[^']*)'|"(?P<double>[^"]*)")\]
    | \[(?P<index>-?\d{1,9})\] | (?P<every>\[\*\]|\.\*)""",
    re.VERBOSE,
)
_VARIABLE = re.compile(r"<([\w.-]+)>")
_PIECE = re.compile(r'\\.|"|<[\w.-]+>', re.DOTALL)
_EVERY = object()
_DYNAMIC = ("HttpParameters", "SageMakerPipelineParameters")
"""Parameters of a target whose texts may be paths."""
_MOST_NODES = 10_000
"""Values that a path with several asterisks may visit."""


def make_render(target: Parameters, rule: Parameters) -> Render:
    """Return what makes the text for a target of `rule`. Raise AwsError for a bad one."""
    if sum(name in target for name in ("Input", "InputPath", "InputTransformer")) > 1:
        raise _invalid("Only one of Input, InputPath, or InputTransformer must be provided", target)
    if "Input" in target:
        constant = target["Input"]
        _check_json(constant, target)
        return lambda _: str(constant)
    if "InputPath" in target:
        find = parse_path(target["InputPath"])
        return lambda event: json.dumps(next(find(event), None))
    if "InputTransformer" in target:
        return _transformer(target["InputTransformer"], rule)
    return json.dumps


def make_fill(target: Parameters) -> Fill:
    """Return what makes the parameters of a target for an event.

    A text that is a path as a whole is replaced by that part of the event, or by an empty text if
    there is none. (The guide does not say what AWS sends then.)
    """
    dynamic = {name: target[name] for name in _DYNAMIC if name in target}
    if not dynamic:
        return lambda _: target
    return lambda event: {**target, **_with_parts(dynamic, event)}


def _with_parts(value: Any, event: Event) -> Any:
    match value:
        case dict():
            return {name: _with_parts(below, event) for name, below in value.items()}
        case list():
            return [_with_parts(below, event) for below in value]
        case str() if value.startswith(("$.", "$[")):
            try:
                found = [*parse_path(value)(event)]
            except AwsError:  # a text that happens to begin so
                return value
            return _as_text(found[0] if len(found) == 1 else found or "")
    return value


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _invalid(text: str, target: Parameters) -> AwsError:
    return AwsError("ValidationException", f"{text} for target {target['Id']}.")


def _check_json(text: str, target: Parameters) -> None:
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"JSON syntax error in input ({error})", target) from error


def parse_path(text: str) -> Callable[[Any], Iterator[Any]]:
    """Return what yields the values at a path. Raise AwsError."""
    steps: list[object] = []
    place = 1
    while place < len(text) and (found := _STEP.match(text, place)):
        place = found.end()
        if found["every"]:
            steps.append(_EVERY)
        elif found["index"]:
            steps.append(int(found["index"]))
        else:
            steps.append(found[found.lastgroup or 0])
    if not text.startswith("$") or place < len(text):
        raise AwsError(
            "ValidationException",
            f"Invalid JSONPath {text!r}: give one such as $.detail.name or $.resources[0]",
        )
    return lambda document: _walk(document, steps)


def _walk(document: Any, steps: list[object]) -> Iterator[Any]:
    found = [document]
    for step in steps:
        found = [below for value in found for below in _below(value, step)][:_MOST_NODES]
    yield from found


def _below(value: Any, step: object) -> Iterator[Any]:
    if step is _EVERY:
        yield from value.values() if isinstance(value, dict) else _items(value)
    elif isinstance(step, int):
        items = _items(value)
        if -len(items) <= step < len(items):
            yield items[step]
    elif isinstance(value, dict) and step in value:
        yield value[step]


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _transformer(transformer: Parameters, rule: Parameters) -> Render:
    template: str = transformer["InputTemplate"]
    paths = {name: parse_path(path) for name, path in transformer.get("InputPathsMap", {}).items()}
    for name in _VARIABLE.findall(template):
        if name not in paths and name not in _RESERVED:
            raise AwsError(
                "ValidationException",
                f"Invalid InputTemplate: <{name}> is not in InputPathsMap, and not one of "
                + ", ".join(f"<{each}>" for each in _RESERVED),
            )

    def render(event: Event) -> str:
        # A path with an asterisk has the list of what it finds, as any path with several.
        values = {name: [*find(event)] for name, find in paths.items()}
        known = {name: found[0] for name, found in values.items() if len(found) == 1}
        known |= {name: found for name, found in values.items() if len(found) > 1}
        known |= {name: make(event, rule) for name, make in _RESERVED.items()}
        return _filled(template, known)

    return render


_RESERVED: Mapping[str, Callable[[Event, Parameters], Any]] = {
    "aws.events.rule-arn": lambda _, rule: rule["Arn"],
    "aws.events.rule-name": lambda _, rule: rule["Name"],
    "aws.events.event.ingestion-time": lambda *_: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    "aws.events.event": lambda event, _: {k: v for k, v in event.items() if k != "detail"},
    "aws.events.event.json": lambda event, _: dict(event),
}


def _filled(template: str, values: Mapping[str, Any]) -> str:
    """Replace the variables: within quotes by texts, elsewhere by JSON values.

    A variable whose path finds nothing is an empty text within quotes, and null elsewhere.
    """
    is_quoted = False

    def replace(found: re.Match[str]) -> str:
        nonlocal is_quoted
        piece = found[0]
        if piece == '"':
            is_quoted = not is_quoted
        if not piece.startswith("<"):
            return piece
        value = values.get(piece[1:-1])
        if not is_quoted:
            return json.dumps(value)
        if value is None:
            return ""
        return json.dumps(_as_text(value))[1:-1]

    return _PIECE.sub(replace, template)
