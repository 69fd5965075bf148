"""Conditions of S3 requests: If-Match and the like, for reads, copies, writes and deletions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from sagemaker_byoc.region.services.s3.store.objects import (
    ARCHIVED,
    Condition,
    ObjectInfo,
    S3Error,
    invalid_argument,
    no_such_key,
    precondition_failed,
)

_COPY_RANGE = re.compile(r"bytes=(\d{1,20})-(\d{1,20})")


def check_read(headers: Mapping[str, str], info: ObjectInfo, prefix: str = "") -> bool:
    """Return False if the client has it already (304); raise S3Error PreconditionFailed.

    `prefix` is `x-amz-copy-source-` for the source of a copy. RFC 9110, section 13.2.2: an entity
    tag takes precedence over a date.
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


def check_copy_source(headers: Mapping[str, str], info: ObjectInfo) -> None:
    """Raise S3Error PreconditionFailed, InvalidObjectState."""
    if not check_read(headers, info, "x-amz-copy-source-"):
        raise precondition_failed("x-amz-copy-source-If-None-Match")
    check_readable(info)


def check_readable(info: ObjectInfo) -> None:
    """Raise S3Error InvalidObjectState for an archived object, which can't be restored here."""
    if info.attributes.storage_class in ARCHIVED:
        raise S3Error(
            "InvalidObjectState",
            "The operation is not valid for the object's storage class",
            status=403,
            StorageClass=info.attributes.storage_class,
        )


def delete_condition(
    key: str, *, match: str | None, modified: str | None, size: str | None
) -> Condition | None:
    """Return the condition of a deletion: the object is the one that the client has seen.

    Raise S3Error InvalidArgument.
    """
    if match is None and modified is None and size is None:
        return None
    time = _date(modified) or _iso_date(modified)
    if modified is not None and time is None:
        raise invalid_argument("Invalid time", "LastModifiedTime", modified)
    if size is not None and not size.isdecimal():
        raise invalid_argument("Invalid size", "Size", size)

    def check(current: ObjectInfo | None) -> None:
        if current is None:
            raise no_such_key(key)
        if match is not None and not _matches(match, current):
            raise precondition_failed("If-Match")
        if time is not None and current.modified != time:
            raise precondition_failed("x-amz-if-match-last-modified-time")
        if size is not None and current.size != int(size):
            raise precondition_failed("x-amz-if-match-size")

    return check


def check_initiated(headers: Mapping[str, str], begun: datetime) -> None:
    """Raise S3Error PreconditionFailed unless the upload is the one that the client means."""
    text = headers.get("x-amz-if-match-initiated-time")
    if text is None:
        return
    if (_date(text) or _iso_date(text)) != begun.replace(microsecond=0):
        raise precondition_failed("x-amz-if-match-initiated-time")


def parse_copy_range(header: str | None, size: int) -> tuple[int, int]:
    """Return start and length of a part's source; stricter than the range of a read.

    Raise S3Error InvalidArgument, InvalidRange.
    """
    if header is None:
        return 0, size
    found = _COPY_RANGE.fullmatch(header)
    if found is None or int(found[1]) > int(found[2]):
        raise invalid_argument(
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first"
            " and last are the zero-based offsets of the first and last bytes to copy",
            "x-amz-copy-source-range",
            header,
        )
    start, last = int(found[1]), int(found[2])
    if last >= size:
        raise S3Error(
            "InvalidRange",
            f"Range specified is not valid for source object of size: {size}",
            status=416,
            RangeRequested=header,
            ActualObjectSize=str(size),
        )
    return start, last - start + 1


def write_condition(headers: Mapping[str, str], key: str) -> Condition | None:
    """Return the condition of a put: create (`If-None-Match: *`), or replace what was seen."""
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


def _matches(header: str, info: ObjectInfo) -> bool:
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")}
    return "*" in tags or info.etag in tags


def _iso_date(text: str | None) -> datetime | None:
    try:
        date = datetime.fromisoformat(text or "").replace(microsecond=0)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _date(text: str | None) -> datetime | None:
    """Return the date; None if it is missing or not valid."""
    if text is None:
        return None
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
