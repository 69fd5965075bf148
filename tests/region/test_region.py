"""A region's life: one a folder, nothing left, found again, its log and its variables."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from botocore.session import Session

from sagemaker_byoc.contract.errors import MachineError
from sagemaker_byoc.region.core.state_folder import is_locked, read_address
from sagemaker_byoc.region.region import Region

pytest_plugins = ["sagemaker_byoc.region.pytest_plugin"]

KILLED = """
import os, sys
from sagemaker_byoc.region.region import Region
region = Region(sys.argv[1])
region.start()
region.client("s3").put_object(Bucket="sagemaker-us-east-1-000000000000", Key="k", Body=b"v")
os.kill(os.getpid(), 9)
"""


def test_a_temporary_region_leaves_nothing():
    before = {thread.name for thread in threading.enumerate()}
    with Region() as region:
        state, url = region.state, region.url
        assert read_address(state).url == url
    assert not state.exists()
    assert {thread.name for thread in threading.enumerate()} <= before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=5)
    with pytest.raises(RuntimeError, match="closed"):
        _ = region.url


def test_a_folder_belongs_to_one_region(tmp_path):
    """The second says where the first is."""
    with Region(tmp_path) as first:
        with pytest.raises(MachineError) as refused:
            Region(tmp_path).start()
        assert first.url in str(refused.value)
        assert "byoc local down" in refused.value.hint
    with Region(tmp_path) as next_one:
        assert next_one.client("sts").get_caller_identity()["Account"] == "000000000000"


def test_a_port_that_is_taken_is_named_and_nothing_is_held(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(MachineError, match=str(port)):
            Region(tmp_path, port=port).start()
    assert not is_locked(tmp_path)


def test_a_region_that_fails_to_start_says_why_and_holds_nothing(tmp_path, monkeypatch):
    def fail(*_args, **_settings):
        raise OSError("no room")

    monkeypatch.setattr("sagemaker_byoc.region.region.compose", fail)
    with pytest.raises(OSError, match="no room"):
        Region(tmp_path).start()
    assert not is_locked(tmp_path)
    assert read_address(tmp_path) is None


@pytest.mark.slow
def test_what_was_stored_is_found_after_a_kill(tmp_path):
    """The lock of a killed process is gone with it; its address is not believed."""
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    assert subprocess.run(command, check=False, timeout=60).returncode == -9
    assert (tmp_path / "region.json").exists()
    assert read_address(tmp_path) is None
    with Region(tmp_path) as region:
        bucket = "sagemaker-us-east-1-000000000000"
        found = region.client("s3").get_object(Bucket=bucket, Key="k")["Body"]
        assert found.read() == b"v"
        found.close()


def test_a_client_is_not_led_astray_by_the_users_settings(monkeypatch):
    """A profile that does not exist, a proxy that does not answer, an endpoint of another."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    with Region() as region:
        assert region.client("sts").get_caller_identity()["Account"] == "000000000000"
        assert "127.0.0.1" in region.environ["NO_PROXY"]


def test_the_fixture_points_the_environment_at_its_region(sagemaker_region):
    """What a user's own tests do: no URL in the code under test."""
    assert os.environ["AWS_ENDPOINT_URL"] == sagemaker_region.url
    client = Session().create_client("sts")
    assert client.meta.endpoint_url == sagemaker_region.url
    assert os.environ["SAGEMAKER_ROLE"].endswith(":role/service-role/SageMakerRole")
    config = Path(os.environ["SAGEMAKER_USER_CONFIG_OVERRIDE"]).read_text()
    buckets = Session().create_client("s3").list_buckets()["Buckets"]
    assert f"DefaultS3Bucket: {buckets[0]['Name']}\n" in config
