"""Whose requests may be held back."""

from __future__ import annotations

import pytest
from botocore.session import Session

from sagemaker_byoc.region.core.polling import is_waiter


class SentError(Exception):
    pass


@pytest.mark.parametrize(
    ("user_agent", "expected"),
    [
        ("Boto3/1 md/Botocore#1 ua/2.1 os/linux m/B", True),
        ("Botocore/1 m/Z,b,N,E,B,e cfg/retry-mode#standard", True),
        ("Botocore/1 m/Z,b,C", False),
        ("Botocore/1 cfg/m/B", False),
        ("", False),
    ],
)
def test_features_are_read_from_the_user_agent(user_agent, expected):
    assert is_waiter(user_agent) is expected


@pytest.mark.slow
@pytest.mark.parametrize("waits", [True, False])
def test_the_installed_botocore_names_its_waiters_so(waits):
    session = Session(session_vars={"profile": (None, None, None, None)})
    client = session.create_client(
        "sagemaker",
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        endpoint_url="http://127.0.0.1:9",
    )
    seen = []

    def keep(request, **_):
        seen.append(request.headers["User-Agent"].decode())
        raise SentError

    client.meta.events.register("before-send.*.*", keep)
    call = client.get_waiter("endpoint_in_service").wait if waits else client.describe_endpoint
    with pytest.raises(SentError):
        call(EndpointName="e")
    assert [is_waiter(text) for text in seen] == [waits]
