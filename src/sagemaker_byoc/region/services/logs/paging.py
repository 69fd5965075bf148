"""Where a reader of logs goes on: tokens that hold byte offsets."""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib

from sagemaker_byoc.region.wire.errors import AwsError

_EVENTS_TOKEN = re.compile(r"(?P<way>[fb])/(?P<offset>\d{1,18})/s")
_LONGEST = 1 << 20


def invalid_token() -> AwsError:
    return AwsError("InvalidParameterException", "The specified nextToken is invalid.")


def events_token(way: str, offset: int) -> str:
    """`f` reads on from `offset`, `b` what lies before it. CloudWatch's own look alike."""
    return f"{way}/{offset:018d}/s"


def parse_events_token(token: str) -> tuple[str, int]:
    found = _EVENTS_TOKEN.fullmatch(token)
    if found is None:
        raise invalid_token()
    return found["way"], int(found["offset"])


def offsets_token(offsets: dict[str, int]) -> str:
    """How far each of several streams was read."""
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(offsets).encode())).decode()


def parse_offsets_token(token: str) -> dict[str, int]:
    try:
        data = zlib.decompressobj().decompress(base64.urlsafe_b64decode(token), _LONGEST)
        found = json.loads(data)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise invalid_token() from error
    if not isinstance(found, dict) or not all(isinstance(o, int) for o in found.values()):
        raise invalid_token()
    return found


def page(names: list[str], token: str | None, limit: int) -> tuple[list[str], str | None]:
    """The names behind the one that `token` is, and the token of what follows them."""
    start = 0
    if token is not None:
        try:
            start = names.index(token) + 1
        except ValueError as error:
            raise invalid_token() from error
    found = names[start : start + limit]
    more = start + limit < len(names)
    return found, found[-1] if more and found else None
