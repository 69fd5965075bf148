"""Events of one stream's file by byte offset, and the tokens that hold such offsets."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sagemaker_byoc.region.wire.operations import AwsError

_BLOCK = 1 << 16
_EVENTS_TOKEN = re.compile(r"(?P<way>[fb])/(?P<offset>\d{1,18})/s")


@dataclass(frozen=True, slots=True)
class Event:
    milliseconds: int
    """Time since 1970. A line of a container has the time at which it was read, in rising order."""
    text: str


@dataclass(frozen=True, slots=True)
class Located:
    """An event and its bytes: `start` up to `end`, where the next begins."""

    start: int
    end: int
    event: Event


def encode(event: Event) -> bytes:
    """Return `MS TEXT`, or `MS<tab>JSON` for a text of several lines, with a line feed."""
    if "\n" in event.text:
        return f"{event.milliseconds}\t{json.dumps(event.text)}\n".encode()
    return f"{event.milliseconds} {event.text}\n".encode(errors="replace")


def decode(line: bytes) -> Event:
    """Return the event of a line without its line feed.

    Raise ValueError for what `encode` does not write.
    """
    text = line.decode(errors="replace")
    digits = len(text) - len(text.lstrip("0123456789"))
    time, separator, rest = text[:digits], text[digits : digits + 1], text[digits + 1 :]
    if not time or separator not in {" ", "\t"}:
        raise ValueError(f"{text[:40]!r} is not an event")
    return Event(int(time), json.loads(rest) if separator == "\t" else rest)


def forward(path: Path, start: int = 0) -> Iterator[Located]:
    """Yield the events from `start` on, without a last line that is still being written.

    Raise ValueError if no event begins at `start`.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return
    with file:
        _check_boundary(file, start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            end = start + len(line)
            yield Located(start, end, decode(line[:-1]))
            start = end


def backward(path: Path, end: int | None = None) -> Iterator[Located]:
    """Yield the newest event first, from the one that ends at `end`, or from the last whole one.

    Raise ValueError if no event ends at `end`.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return
    with file:
        end = position = _end_of_lines(file) if end is None else end
        _check_boundary(file, end)
        pending = b""
        while position > 0:
            size = min(_BLOCK, position)
            position -= size
            file.seek(position)
            lines = (file.read(size) + pending).split(b"\n")[:-1]
            # The first may have begun in the block before.
            pending = lines.pop(0) + b"\n" if position > 0 else b""
            for line in reversed(lines):
                start = end - len(line) - 1
                yield Located(start, end, decode(line))
                end = start


def _check_boundary(file: BinaryIO, offset: int) -> None:
    """Raise ValueError if no event begins at `offset`; leave the file there."""
    if offset > 0:
        file.seek(offset - 1)
        if file.read(1) != b"\n":
            raise ValueError(f"no event begins at byte {offset}")


def _end_of_lines(file: BinaryIO) -> int:
    """Return the offset after the last line feed."""
    position = file.seek(0, os.SEEK_END)
    while position > 0:
        size = min(_BLOCK, position)
        position -= size
        file.seek(position)
        found = file.read(size).rfind(b"\n")
        if found >= 0:
            return position + found + 1
    return 0


def invalid_token() -> AwsError:
    return AwsError("InvalidParameterException", "The specified nextToken is invalid.")


def events_token(way: str, offset: int) -> str:
    """Return a token like CloudWatch's: `f` reads forward from `offset`, `b` backward."""
    return f"{way}/{offset:018d}/s"


def parse_events_token(token: str) -> tuple[str, int]:
    found = _EVENTS_TOKEN.fullmatch(token)
    if found is None:
        raise invalid_token()
    return found["way"], int(found["offset"])
