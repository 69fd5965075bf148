"""What the operations of EventBridge share: pages of lists, tags, and AWS's errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from sagemaker_byoc.contract.facts import is_reserved_tag
from sagemaker_byoc.region.core import paging
from sagemaker_byoc.region.wire.operations import AwsError, Parameters

T = TypeVar("T")

PAGE = 100
"""Entries of a page if the request has no Limit, which is also the most it may ask for."""
MOST_TAGS = 50


def invalid(text: str) -> AwsError:
    return AwsError("ValidationException", text)


def not_here(what: str, hint: str) -> AwsError:
    """Refuse a part of EventBridge that this region lacks; it is never ignored."""
    return invalid(f"{what} is not supported by this local region. {hint}.")


def not_found(text: str) -> AwsError:
    return AwsError("ResourceNotFoundException", text)


def exists(text: str) -> AwsError:
    return AwsError("ResourceAlreadyExistsException", text)


def limit_exceeded() -> AwsError:
    return AwsError(
        "LimitExceededException", "The requested resource exceeds the maximum number allowed."
    )


def list_page(
    items: str, found: Iterable[T], asked: Parameters, name: Callable[[T], str]
) -> Parameters:
    """Return a page of those whose name has the asked prefix: {items: […], "NextToken": …}."""
    prefix = asked.get("NamePrefix", "")
    try:
        page, token = paging.page(
            (each for each in found if name(each).startswith(prefix)),
            lambda each: (name(each),),
            size=asked.get("Limit", PAGE),
            token=asked.get("NextToken"),
        )
    except paging.TokenError as error:
        raise invalid("The NextToken is not valid: give that of an answer") from error
    return {items: page, "NextToken": token}


def merged_tags(old: Mapping[str, str], tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the tags of a resource with those of a request. Raise AwsError."""
    for tag in tags:
        if is_reserved_tag(tag["Key"]):
            raise invalid(f"Tag key {tag['Key']!r} begins with aws:, which is AWS's")
    merged = {**old, **{tag["Key"]: tag["Value"] for tag in tags}}
    if len(merged) > MOST_TAGS:
        raise limit_exceeded()
    return merged
