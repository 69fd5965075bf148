"""Pages of the answers of List and Describe operations.

A token holds the place of the last entry of its page, not a number: an entry that is added or
removed between two requests does not shift the next page.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeVar

Place: TypeAlias = tuple[str, ...]
"""What entries are sorted by; the last text makes it unique."""

T = TypeVar("T")


class TokenError(ValueError):
    """The token is not one that an answer had."""


def page(
    entries: Iterable[T],
    place: Callable[[T], Place],
    *,
    size: int,
    token: str | None,
    descending: bool = False,
) -> tuple[list[T], str | None]:
    """Return the `size` entries after `token`, and the token of the next page if there is one.

    Raise TokenError.
    """
    found = sorted(entries, key=place, reverse=descending)
    if token:
        last = _place(token)
        found = [
            entry for entry in found if (place(entry) < last if descending else place(entry) > last)
        ]
    part = found[:size]
    return part, encode(place(part[-1])) if part and len(found) > size else None


def encode(content: object) -> str:
    """Return a token with JSON in it. A tuple is a list."""
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


def decode(token: str) -> Any:
    """Return the JSON in a token, which a client may have changed. Raise TokenError."""
    try:
        return json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, RecursionError) as error:
        raise TokenError(token) from error


def _place(token: str) -> Place:
    place = decode(token)
    if not isinstance(place, list) or not all(isinstance(text, str) for text in place):
        raise TokenError(token)
    return tuple(place)
