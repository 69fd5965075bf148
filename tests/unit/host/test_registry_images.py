"""One reading of an image's name, for every room that has one."""

from __future__ import annotations

import pytest

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.host import registry_images
from sagemaker_byoc.host.registry_images import EcrHost, Reference
from sagemaker_byoc.region.containers.images import Reference as LocalReference
from sagemaker_byoc.region.wire.operations import AwsError

DIGEST = "sha256:" + "0f" * 32


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("mine", Reference("", "mine")),
        ("team/mine:2", Reference("", "team/mine", "2")),
        ("127.0.0.1:5000/a/b:c", Reference("127.0.0.1:5000", "a/b", "c")),
        ("localhost/a", Reference("localhost", "a")),
        (f"host.x/a:1@{DIGEST}", Reference("host.x", "a", "1", DIGEST)),
        (f"mine@{DIGEST}", Reference("", "mine", "", DIGEST)),
    ],
)
def test_every_room_reads_a_name_alike(text, found):
    assert registry_images.parse(text) == found
    assert str(found) == text
    local = LocalReference.parse(text)
    assert (local.host, local.repository, local.digest) == (
        found.registry,
        found.repository,
        found.digest,
    )
    assert (local.digest or local.tag) == found.target


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Upper",
        "a:",
        "a@",
        "a@sha256:0f",
        "a:b:c",
        "host.x/",
        "a//b",
        "-a",
        "a b",
        "a\n",
        "a:" + "t" * 129,
        "a/" * 130 + "a",
    ],
)
def test_every_room_refuses_a_name_alike(text):
    with pytest.raises(RequestError):
        registry_images.parse(text)
    with pytest.raises(AwsError):
        LocalReference.parse(text)


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", EcrHost("123456789012", "eu-west-1")),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", EcrHost("123456789012", "cn-north-1")),
        ("123456789012.dkr-ecr.eu-west-1.on.aws", EcrHost("123456789012", "eu-west-1")),
        ("12345.dkr.ecr.eu-west-1.amazonaws.com", None),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example", None),
        ("docker.io", None),
    ],
)
def test_ecr_hosts(host, found):
    assert registry_images.ecr_host(host) == found
    assert LocalReference.parse(f"{host}/a").is_ours is (found is not None)


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1:5000", True),
        ("localhost:5000", True),
        ("127.1.2.3", True),
        ("127.evil.example", False),
        ("localhost.evil.example", False),
    ],
)
def test_this_machines_registries(host, is_local):
    """They are spoken to without TLS, so no other host may pass for one."""
    assert registry_images.parse(f"{host}/a").is_local is is_local
    assert LocalReference.parse(f"{host}/a").is_ours is is_local
