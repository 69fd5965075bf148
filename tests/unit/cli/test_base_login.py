"""The login that a builder is lent for base images in ECR."""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path

import pytest

from sagemaker_byoc.cli import base_login
from sagemaker_byoc.cloud import ecr
from sagemaker_byoc.contract.errors import MachineError

AWS = "763104351884.dkr.ecr.eu-west-1.amazonaws.com"
OURS = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The user's docker configuration."""
    folder = tmp_path / "docker"
    (folder / "cli-plugins").mkdir(parents=True)
    document = {"auths": {"hub.example": {"auth": "bWU6cHc="}}, "currentContext": "mine"}
    (folder / "config.json").write_text(json.dumps(document))
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    return folder


def test_which_registries_a_dockerfile_names():
    text = f"FROM {AWS}/pytorch-training:2.6 AS a\nARG B={OURS}/x\nFROM $B\nFROM python:3.11\n"
    assert base_login.ecr_hosts(text, f"{AWS}/other") == [OURS, AWS]
    assert base_login.ecr_hosts("FROM python:3.11-slim", "evil.example/x") == []
    assert base_login.ecr_hosts(f"FROM evil-{AWS}/x") == []


def test_nothing_is_lent_where_nothing_is_missing(own):
    before = dict(os.environ)
    with base_login.lent([]) as lent:
        assert lent == []
        assert dict(os.environ) == before
    (own / "config.json").write_text(json.dumps({"auths": {AWS: {"auth": "QVdTOng="}}}))
    with base_login.lent([AWS]) as lent:
        assert lent == []
        assert dict(os.environ) == before


def test_the_users_configuration_and_a_helper_beside_it(own):
    before = dict(os.environ)
    with base_login.lent([AWS]) as lent:
        assert lent == [AWS]
        folder = os.environ["DOCKER_CONFIG"]
        with open(f"{folder}/config.json") as file:
            document = json.load(file)
        assert document["auths"]["hub.example"]["auth"] == "bWU6cHc="
        assert document["currentContext"] == "mine"
        assert document["credHelpers"] == {AWS: "byoc-ecr"}
        assert Path(folder, "config.json").stat().st_mode & 0o077 == 0
        assert Path(folder, "cli-plugins").samefile(own / "cli-plugins")
        program = ["docker-credential-byoc-ecr", "list"]
        done = subprocess.run(program, capture_output=True, check=True, timeout=30)
        assert json.loads(done.stdout) == {}
    assert dict(os.environ) == before
    assert not Path(folder).exists()
    assert "credHelpers" not in (own / "config.json").read_text()


def test_the_helper_speaks_dockers_protocol(monkeypatch, capsys):
    asked = []

    def log_in(cloud):
        asked.append(cloud.region)
        return ecr.Authorization("AWS", "secret", "https://x")

    monkeypatch.setattr(ecr, "log_in", log_in)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"https://{AWS}\n"))
    assert base_login.main(["get"]) == 0
    assert asked == ["eu-west-1"]
    found = json.loads(capsys.readouterr().out)
    assert found == {"ServerURL": f"https://{AWS}", "Username": "AWS", "Secret": "secret"}
    assert base_login.main(["store"]) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("docker.io"))
    assert base_login.main(["get"]) == 1
    assert "credentials not found" in capsys.readouterr().out


def test_a_helper_without_credentials_says_what_to_do(monkeypatch, capsys):
    def log_in(_):
        raise MachineError("there are no AWS credentials here", hint="Log in: aws configure")

    monkeypatch.setattr(ecr, "log_in", log_in)
    monkeypatch.setattr("sys.stdin", io.StringIO(AWS))
    assert base_login.main(["get"]) == 1
    assert "Log in: aws configure" in capsys.readouterr().out
