"""FilterLogEvents: events of several streams by time, and filter patterns for plain text.

All terms and "quoted phrases" must occur, no -term may, and one of the ?terms must. Case matters.
"""

from __future__ import annotations

import base64
import binascii
import heapq
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sagemaker_byoc.region.services.logs.log_store import Event, Located, LogStore
from sagemaker_byoc.region.wire.operations import AwsError

_TERM = re.compile(r'(?P<sign>[-?]?)(?:"(?P<phrase>(?:[^"\\]|\\.)*)"|(?P<word>[^\s"]+))(?=\s|$)')
_LONGEST_TOKEN = 1 << 20
"""Bytes of a token that are decompressed at most."""


@dataclass(frozen=True, slots=True)
class Pattern:
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    def matches(self, text: str) -> bool:
        return (
            all(term in text for term in self.required)
            and not any(term in text for term in self.excluded)
            # CloudWatch ignores the ?terms of a pattern that has others beside them.
            and (not self.optional or bool(self.required) or any(t in text for t in self.optional))
        )


def parse_pattern(text: str) -> Pattern:
    """Return the pattern; raise AwsError if it is not valid or of an unsupported kind."""
    text = text.strip()
    if text.startswith(("{", "[", "%")):
        raise invalid(
            f"Invalid filter pattern: {text!r} is a pattern over JSON, columns or a regular "
            "expression, which this local region does not evaluate. Use terms, "
            '"quoted phrases", -exclusions and ?alternatives'
        )
    terms: dict[str, list[str]] = {"": [], "-": [], "?": []}
    position = 0
    while position < len(text):
        found = _TERM.match(text, position)
        if found is None:
            raise invalid(
                f"Invalid filter pattern: {text!r} at character {position + 1}; "
                "put phrases, and terms with quotes, in double quotes"
            )
        phrase = found["phrase"]
        word = found["word"] if phrase is None else re.sub(r"\\(.)", r"\1", phrase)
        terms[found["sign"]].append(word)
        position = found.end()
        while text[position : position + 1].isspace():
            position += 1
    return Pattern(tuple(terms[""]), tuple(terms["?"]), tuple(terms["-"]))


@dataclass(frozen=True, slots=True)
class Question:
    """What one request searches for; `limit` bounds its answer."""

    pattern: Pattern
    within: Callable[[Event], bool]
    limit: int
    token: str | None


def search(
    store: LogStore, group: str, streams: Sequence[str], question: Question
) -> dict[str, Any]:
    """Return the events that match, and a token that holds how far each stream was read."""
    offsets = {} if question.token is None else _parse_token(question.token)

    def read(stream: str) -> Iterator[tuple[int, str, Located]]:
        try:
            for located in store.forward(group, stream, offsets.get(stream, 0)):
                yield located.event.milliseconds, stream, located
        except ValueError as error:
            raise invalid_token() from error

    found: list[dict[str, Any]] = []
    for _, stream, located in heapq.merge(*map(read, streams), key=lambda item: item[:2]):
        offsets[stream] = located.end
        if question.within(located.event) and question.pattern.matches(located.event.text):
            found.append(_document(stream, located))
            if len(found) == question.limit:
                token = _token(offsets)
                return {"events": found, "nextToken": token, "searchedLogStreams": []}
    return {"events": found, "searchedLogStreams": []}


def _document(stream: str, located: Located) -> dict[str, Any]:
    time = located.event.milliseconds
    return {
        "logStreamName": stream,
        "timestamp": time,
        "message": located.event.text,
        "ingestionTime": time,
        "eventId": f"{time:015d}{zlib.crc32(stream.encode()):010d}{located.start:031d}",
    }


def _token(offsets: dict[str, int]) -> str:
    """Return a token that holds how far each stream was read."""
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(offsets).encode())).decode()


def _parse_token(token: str) -> dict[str, int]:
    try:
        data = zlib.decompressobj().decompress(base64.urlsafe_b64decode(token), _LONGEST_TOKEN)
        found = json.loads(data)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise invalid_token() from error
    if not isinstance(found, dict) or not all(isinstance(o, int) for o in found.values()):
        raise invalid_token()
    return found


def invalid(text: str) -> AwsError:
    return AwsError("InvalidParameterException", text)


def invalid_token() -> AwsError:
    return invalid("The specified nextToken is invalid.")
