"""Region, account and login as the environment has them; each failure with what to do."""

from __future__ import annotations

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote

import pytest
from botocore import exceptions

from sagemaker_byoc.cloud import ecr, session
from sagemaker_byoc.cloud.session import (
    AwsError,
    Cloud,
    explained,
    resolve_account,
    resolve_region,
)
from sagemaker_byoc.contract.errors import ByocError, MachineError, RequestError
from sagemaker_byoc.host.aws_calls import Call, only


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """No credentials, no configuration, no instance to ask for them."""
    for name in ("REGION", "DEFAULT_REGION", "PROFILE", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_the_flag_before_the_environment_before_the_configuration(tmp_path, monkeypatch):
    (tmp_path / "config").write_text("[default]\nregion = eu-north-1\n")
    environment = {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-east-1"}
    assert resolve_region("ap-south-1", environment) == "ap-south-1"
    assert resolve_region(None, environment) == "eu-west-1"
    assert resolve_region(None, {"AWS_DEFAULT_REGION": "us-gov-west-1"}) == "us-gov-west-1"
    assert resolve_region(None, {}) == "eu-north-1"


def test_no_region():
    with pytest.raises(RequestError, match="no region is set") as caught:
        resolve_region(None, {})
    assert "--region" in caught.value.hint
    assert "aws configure" in caught.value.hint


@pytest.mark.parametrize("region", ["Ireland", "eu-west", "eu_west_1", "evil.example/eu-west-1"])
def test_what_is_no_region(region):
    with pytest.raises(RequestError, match="is not a region"):
        resolve_region(region, {})


def test_no_credentials():
    with pytest.raises(MachineError, match="no AWS credentials") as caught:
        resolve_account(Cloud("eu-west-1"), None)
    assert "aws configure" in caught.value.hint
    assert caught.value.exit_code == 3


def test_an_account_that_is_none():
    with pytest.raises(RequestError, match="--account '12' is not an account"):
        resolve_account(Cloud("eu-west-1"), "12")


def test_a_profile_that_is_not_there(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(RequestError, match="nobody") as caught:
        resolve_region(None, {})
    assert "AWS_PROFILE" in caught.value.hint


@pytest.mark.slow
def test_nobody_at_the_endpoint(monkeypatch):
    monkeypatch.setattr(session, "ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(MachineError, match="can't be reached") as caught:
        resolve_account(Cloud("eu-west-1"), None)
    assert "AWS_ENDPOINT_URL" in caught.value.hint
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    with pytest.raises(ByocError) as caught:
        resolve_account(Cloud("eu-west-1"), None)
    assert "AWS_ENDPOINT_URL" in caught.value.hint


@pytest.mark.parametrize(
    ("code", "kind", "hint"),
    [
        ("ExpiredTokenException", MachineError, "aws sso login"),
        ("UnrecognizedClientException", MachineError, "aws configure"),
        ("AccessDeniedException", AwsError, "ecr:CreateRepository"),
        ("LimitExceededException", AwsError, "higher quota"),
        ("SomethingNew", AwsError, "AWS's words"),
    ],
)
def test_what_aws_refuses(code, kind, hint):
    answer = {"Error": {"Code": code, "Message": "not you"}}
    with pytest.raises(kind) as caught, explained(Call("ecr", "CreateRepository"), "eu-west-1"):
        raise exceptions.ClientError(answer, "CreateRepository")
    assert hint in caught.value.hint
    assert code in caught.value.what


@pytest.fixture(scope="module")
def proxy():
    """Answers every request with 200 and what it asks for in its path."""

    class Page(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            body = unquote(self.path.strip("/")).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("page", ["<p>Log in to the network", "", "[]", "null", "{", "{}", "3"])
def test_what_answers_is_not_aws(proxy, page, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECR", f"{proxy}/{quote(page, safe='')}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    asked, cloud = Call("ecr", "DescribeImages", {"repositoryName": "digits"}), Cloud("eu-west-1")
    with pytest.raises(MachineError, match="the answer to ecr DescribeImages") as caught:
        len(cloud.call(asked)["imageDetails"])
    assert "HTTPS_PROXY" in caught.value.hint


@pytest.mark.parametrize("entries", [[], [{}, {}], None, {}])
def test_one_is_asked_for_and_one_has_to_come(entries):
    with pytest.raises(MachineError, match="does not have exactly one entry of imageDetails"):
        only(Call("ecr", "DescribeImages"), {"imageDetails": entries}, "imageDetails")


def test_without_boto3_the_hint_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(MachineError, match="boto3 is not installed") as caught:
        Cloud("eu-west-1").call(session.IDENTITY)
    assert "[cloud]" in caught.value.hint


def test_boto3_is_imported_by_the_first_call_only():
    program = (
        "import sys, sagemaker_byoc.cloud.session, sagemaker_byoc.cloud.ecr;"
        "print([name for name in sys.modules if name.startswith('boto')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


def test_a_password_is_not_shown():
    assert "secret" not in repr(ecr.Authorization("AWS", "secret", "https://x"))
