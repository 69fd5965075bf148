"""If-Match and its kin, Range, and what they make of an answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from sagemaker_byoc.local.storage.errors import S3Error, no_such_key, precondition_failed
from sagemaker_byoc.local.storage.objects import Condition, ObjectInfo

_RANGE = re.compile(r"bytes=(\d{0,20})-(\d{0,20})")


def check_read(headers: Mapping[str, str], info: ObjectInfo, prefix: str = "") -> bool:
    """False where the client has it already (304); raises S3Error PreconditionFailed.

    `prefix` is `x-amz-copy-source-` for the source of a copy. RFC 9110, section 13.2.2: an entity
    tag goes before a date.
    """
    if match := headers.get(f"{prefix}if-match"):
        if not _matches(match, info):
            raise precondition_failed("If-Match")
    elif (since := _date(headers.get(f"{prefix}if-unmodified-since"))) and info.modified > since:
        raise precondition_failed("If-Unmodified-Since")
    if match := headers.get(f"{prefix}if-none-match"):
        return not _matches(match, info)
    since = _date(headers.get(f"{prefix}if-modified-since"))
    return since is None or info.modified > since


def write_condition(headers: Mapping[str, str], key: str) -> Condition | None:
    """Of a put: create only (`If-None-Match: *`), or replace only what the client has seen."""
    absent, match = headers.get("if-none-match"), headers.get("if-match")
    if absent is not None and absent.strip() != "*":
        raise S3Error(
            "NotImplemented",
            "If-None-Match of a put can only be *, as in S3",
            status=501,
            Header="If-None-Match",
        )
    if absent is None and match is None:
        return None

    def check(current: ObjectInfo | None) -> None:
        if absent is not None and current is not None:
            raise precondition_failed("If-None-Match")
        if match is not None:
            if current is None:
                raise no_such_key(key)
            if not _matches(match, current):
                raise precondition_failed("If-Match")

    return check


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and length; None for the whole, as for a range that S3 doesn't read (several at once).

    Raises S3Error InvalidRange.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or found[0] == "bytes=-":
        return None
    first, last = found[1], found[2]
    if not first:
        length = min(int(last), size)
        start = size - length
    else:
        start = int(first)
        if last and int(last) < start:
            return None
        length = (min(int(last), size - 1) if last else size - 1) - start + 1
    if length <= 0 or start >= size:
        raise S3Error(
            "InvalidRange",
            "The requested range is not satisfiable",
            status=416,
            RangeRequested=header or "",
            ActualObjectSize=str(size),
        )
    return start, length


def _matches(header: str, info: ObjectInfo) -> bool:
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")}
    return "*" in tags or info.etag in tags


def _date(text: str | None) -> datetime | None:
    """What is no date is not asked for; neither is one to come."""
    if text is None:
        return None
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
