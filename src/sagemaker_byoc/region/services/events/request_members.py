"""Members that requests of several operations have: prefix, limit and token of a list, and tags."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias, TypeVar

from sagemaker_byoc.region.core import paging, tags
from sagemaker_byoc.region.services.events.errors import invalid, limit_exceeded
from sagemaker_byoc.region.wire.operations import Parameters

T = TypeVar("T")
ChangeTags: TypeAlias = Callable[[Mapping[str, str]], dict[str, str]]
"""Returns the tags that a resource gets, from those that it has. It may raise AwsError."""

PAGE = 100
"""Entries of a page if the request has no Limit, which is also the most it may ask for."""


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


def merged_tags(old: Mapping[str, str], new: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return the tags of a resource with those of a request. Raise AwsError."""
    try:
        return tags.merged(old, new)
    except tags.ReservedTagError as error:
        raise invalid(str(error)) from error
    except tags.TooManyTagsError as error:
        raise limit_exceeded() from error
