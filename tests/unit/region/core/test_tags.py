"""Tags of a resource, and what a request may add."""

from __future__ import annotations

import pytest

from sagemaker_byoc.region.core.tags import (
    MOST,
    ReservedTagError,
    TooManyTagsError,
    as_list,
    merged,
    without,
)


def test_those_of_the_request_win():
    old = {"a": "1", "b": "2"}
    new = [{"Key": "b", "Value": "3"}, {"Key": "c", "Value": ""}]
    assert merged(old, new) == {"a": "1", "b": "3", "c": ""}
    assert without(old, ["a", "none"]) == {"b": "2"}
    assert merged({}, as_list(old)) == old


@pytest.mark.parametrize("key", ["aws:x", "AWS:x"])
def test_keys_of_aws(key):
    with pytest.raises(ReservedTagError, match=f"'{key}' begins with aws:"):
        merged({}, [{"Key": key, "Value": "v"}])


def test_a_resource_can_have_fifty():
    many = {str(number): "" for number in range(MOST)}
    assert merged(many, [{"Key": "0", "Value": "new"}])["0"] == "new"
    with pytest.raises(TooManyTagsError, match="51 tags; a resource can have 50"):
        merged(many, [{"Key": "more", "Value": ""}])
