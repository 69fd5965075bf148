"""URLs that the region may send to, and who may name them."""

from __future__ import annotations

import pytest

from sagemaker_byoc.region.core.account import CALLER, Principal
from sagemaker_byoc.region.core.urls import check_url, is_url, require_owner
from sagemaker_byoc.region.wire.operations import AwsError


@pytest.mark.parametrize("url", ["http://127.0.0.1", "https://example.com:8443/a?b=c", "HTTP://h/"])
def test_urls(url):
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/",
        "http://",
        "http:///x",
        "http://h:0/",
        "http://h:x/",
        "http://h/a b",
        "http://h/\n",
        "http://h/é",
        "http://u:p@h/",
        "http://h/#f",
        "http://[::1/",
    ],
)
def test_urls_that_are_refused(url):
    with pytest.raises(AwsError) as caught:
        check_url(url)
    assert caught.value.code == "ValidationException"
    with pytest.raises(AwsError) as caught:
        check_url(url, code="ValidationError")
    assert caught.value.code == "ValidationError"


def test_what_is_a_url():
    assert is_url("HTTPS://h")
    assert not is_url("arn:aws:sns:us-east-1:000000000000:http://h")


def test_a_container_is_not_the_owner():
    require_owner()
    token = CALLER.set(Principal("secret", "arn:aws:sts::000000000000:assumed-role/r/s"))
    try:
        with pytest.raises(AwsError, match="assumed-role/r/s may not name URLs") as caught:
            require_owner()
    finally:
        CALLER.reset(token)
    assert caught.value.code == "AccessDeniedException"
