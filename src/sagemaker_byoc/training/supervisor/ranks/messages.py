"""What supervisors of several hosts say to each other: one JSON object a line, of known shape.

Whatever else arrives is refused. Nothing that is received is ever executed or used as a path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeAlias

from sagemaker_byoc.contract.files import Json

LIMIT = 16 * 2**10
"""Bytes of one line. The longest is a failure text of 1 KiB, every byte of it escaped."""

Message: TypeAlias = dict[str, Json]

NONE = type(None)
NUMBER = (int, float)
SHAPES: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    # to the first host
    "hello": {"run": (str,), "host": (str,), "processes": (int,)},
    "beat": {"quiet": NUMBER, "stalled": (*NUMBER, NONE), "over": (bool,)},
    "failed": {
        "rank": (int, NONE),
        "code": (int,),
        "text": (str,),
        "secondary": (bool,),
        "age": NUMBER,
    },
    # from the first host
    "start": {"processes": (list,)},
    "end": {},
    "abort": {},
    "verdict": {"host": (str,), "rank": (int, NONE), "code": (int,), "text": (str,)},
    "bye": {},
    # both ways
    "alive": {},
    "stopped": {"host": (str,), "signal": (int,)},
}


class NotAMessageError(Exception):
    """Something on the control port that no supervisor of this job would say."""


def encode(kind: str, **fields: Json) -> bytes:
    return json.dumps({"kind": kind, **fields}).encode() + b"\n"


def decode(line: bytes) -> Message:
    """The message in a line; raises NotAMessageError for any other shape."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise NotAMessageError("not JSON") from error
    kind = message.get("kind") if isinstance(message, dict) else None
    shape = SHAPES.get(kind) if isinstance(kind, str) else None
    if shape is None or message.keys() != {"kind", *shape}:
        raise NotAMessageError(f"kind {kind!r:.40}")
    for name, types in shape.items():
        if type(message[name]) not in types:
            raise NotAMessageError(f"{kind}: {name}")
    known: Message = message
    return known


def text(message: Message, name: str) -> str:
    return str(message[name])


def number(message: Message, name: str) -> float:
    value = message[name]
    return float(value) if isinstance(value, int | float) else 0.0


def count(message: Message, name: str) -> int:
    return int(number(message, name))


def optional_count(message: Message, name: str) -> int | None:
    return None if message[name] is None else count(message, name)


def counts(message: Message, name: str) -> list[int]:
    values = message[name]
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise NotAMessageError(name)
    return [value for value in values if isinstance(value, int)]
