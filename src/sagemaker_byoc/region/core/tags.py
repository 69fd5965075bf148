"""Tags of a resource: what is common to all services that have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sagemaker_byoc.contract.facts import is_reserved_tag

MOST = 50
"""Tags of one resource (service model: sagemaker.TagList.max)."""


class ReservedTagError(ValueError):
    """A key of a request begins with aws:."""


class TooManyTagsError(ValueError):
    """A resource would have more than MOST tags."""


def merged(old: Mapping[str, str], new: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return the tags of a resource with those of a request, which win.

    Raise ReservedTagError and TooManyTagsError.
    """
    found = {**old, **{tag["Key"]: tag["Value"] for tag in new}}
    for key in found.keys() - old.keys():
        if is_reserved_tag(key):
            raise ReservedTagError(f"Tag key {key!r} begins with aws:, which is AWS's")
    if len(found) > MOST:
        raise TooManyTagsError(f"{len(found)} tags; a resource can have {MOST}")
    return found


def without(old: Mapping[str, str], keys: Iterable[str]) -> dict[str, str]:
    gone = frozenset(keys)
    return {key: value for key, value in old.items() if key not in gone}


def as_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the tags as the API writes them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]
