"""A client of STS reaches the region whatever URL the program builds."""

from __future__ import annotations

import os

import pytest
from botocore.session import Session

from sagemaker_byoc.region import clients

URL = "http://127.0.0.1:12345"


@pytest.mark.parametrize(
    ("region", "given"),
    [
        ("eu-central-1", None),
        ("us-east-1", "https://sts.us-east-1.amazonaws.com"),  # as both SDKs build it
        ("us-east-1", "https://sts.amazonaws.com"),
    ],
)
def test_sts_client_is_sent_to_the_region(tmp_path, monkeypatch, region, given):
    clients.write_sts_rules(tmp_path, URL)
    monkeypatch.setenv("AWS_DATA_PATH", clients.data_path(tmp_path, {}))
    session = Session(session_vars={"profile": (None, None, None, None)})
    client = session.create_client(
        "sts",
        region_name=region,
        endpoint_url=given,
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )
    seen = []

    def answer(request, **_):
        seen.append(request)
        raise ConnectionError("not sent")

    client.meta.events.register("before-send.sts.GetCallerIdentity", answer)
    with pytest.raises(ConnectionError):
        client.get_caller_identity()
    assert seen[0].url == f"{URL}/"
    assert f"/{region}/sts/aws4_request" in seen[0].headers["Authorization"].decode()
    assert "sts" in session.get_available_services()


def test_data_path_keeps_what_is_set(tmp_path):
    own = str(tmp_path / "botocore")
    assert clients.data_path(tmp_path, {}) == own
    twice = os.pathsep.join(["/models", own])
    assert clients.data_path(tmp_path, {"AWS_DATA_PATH": twice}) == os.pathsep.join(
        [own, "/models"]
    )
