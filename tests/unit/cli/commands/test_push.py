"""`byoc push` from the command line: misuse, the plan, and what goes where."""

from __future__ import annotations

import argparse
import hashlib
import json
import re

import pytest
from tests.unit.images import made
from tests.unit.images.served import registry

from sagemaker_byoc.cli import push_plan
from sagemaker_byoc.cli.commands import push
from sagemaker_byoc.cli.main import main
from sagemaker_byoc.cli.push_request import parse_request
from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.cloud import ecr
from sagemaker_byoc.cloud.session import AwsError
from sagemaker_byoc.contract.errors import RequestError


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No account, no region, no cache but this test's; AWS is not to be asked."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_ECR", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("DOCKER", "/nonexistent/docker")


@pytest.fixture
def image(tmp_path):
    layer = made.layer({"train": b"#!/bin/sh\n"})
    document = made.config(Entrypoint=["train"])
    document["rootfs"]["diff_ids"] = [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    return str(made.saved(tmp_path / "image.tar", document, layer))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: IMAGE"),
        (["xy", "--tag", "a b"], "'a b' is no tag"),
        (["xy", "--tag", 200 * "a"], "is no tag"),
        (["xy", "--repository", "Upper"], "'Upper' is no name of an ECR repository"),
        (["xy", "--repository", "a"], "'a' is no name of an ECR repository"),
        (["Upper"], "'Upper' is not an image name"),
        (["xy", "--region", "Ireland"], "'Ireland' is not a region"),
        (["xy"], "no region is set"),
        (["xy", "--region", "eu-west-1", "--account", "12"], "'12' is not an account id"),
        (["xy", "--lifecycle", "0"], "'0' is no number of images"),
        (["xy", "--lifecycle", "many"], "'many' is no number of images"),
        (["xy", "--immutable", "--mutable"], "not allowed with argument"),
        (["xy", "--platform", "windows/amd64"], "invalid choice"),
        (["xy", "--registry", "http://x"], "'http://x' is no registry"),
        (["xy", "--registry", "h:1", "--account", "1"], "--account is for ECR"),
        (["xy", "--registry", "h:1", "--region", "r"], "--region is for ECR"),
        (["xy", "--registry", "h:1", "--scan"], "--scan is for ECR"),
        (["xy", "--registry", "h:1", "--no-scan"], "--scan is for ECR"),
        (["xy", "--registry", "h:1", "--lifecycle", "2"], "--lifecycle is for ECR"),
        (["xy", "--registry", "h:1", "--immutable"], "--immutable/--mutable is for ECR"),
        (["xy", "--registry", "123456789012.dkr.ecr.eu-west-1.amazonaws.com"], "is ECR"),
        (["h.example/xy:1", "--region", "eu-west-1"], "is named for h.example"),
        (["xy", "--imutable"], "unrecognized arguments"),
        (["xy", "--tag"], "expected one argument"),
    ],
)
def test_misuse_is_exit_2_with_a_hint(arguments, words, capfd):
    try:
        code = main(["push", *arguments])
    except SystemExit as error:
        code = error.code
    out, err = capfd.readouterr()
    assert code == 2, err
    assert words in err
    assert "fix: " in err
    assert not out
    assert "Traceback" not in err


def test_an_archive_without_a_name_asks_for_one(tmp_path, capfd):
    made.layout(tmp_path / "oci", made.config())
    assert main(["push", str(tmp_path / "oci"), "--region", "eu-west-1"]) == 2
    assert "Add --repository NAME" in capfd.readouterr().err


def test_no_engine_is_exit_3(capfd):
    assert main(["push", "x", "--registry", "127.0.0.1:9"]) == 3
    assert "DOCKER" in capfd.readouterr().err


def test_the_plan_is_a_list_of_commands(capfd):
    options = ["--immutable", "--scan", "--lifecycle", "3", "--region", "eu-west-1"]
    assert main(["push", "my-serve:7", "--dry-run", *options]) == 0
    out, err = capfd.readouterr()
    assert not err
    steps = out.splitlines()
    host = "https://ACCOUNT.dkr.ecr.eu-west-1.amazonaws.com/v2/my-serve"
    expected = [
        "aws sts get-caller-identity",
        "aws ecr get-authorization-token",
        "aws ecr describe-repositories",
        "aws ecr create-repository",
        "aws ecr put-image-tag-mutability",
        "aws ecr put-image-scanning-configuration",
        "aws ecr get-lifecycle-policy",
        "aws ecr put-lifecycle-policy",
        "/nonexistent/docker image inspect my-serve:7",
        "/nonexistent/docker save my-serve:7",
        f"GET {host}/manifests/7",
        f"HEAD {host}/blobs/DIGEST",
        f"POST {host}/blobs/uploads/",
        "PUT LOCATION?digest=DIGEST",
        f"PUT {host}/manifests/7",
        f"GET {host}/manifests/7",
        f"GET {host}/blobs/DIGEST",
        "aws ecr describe-images",
    ]
    assert len(steps) == len(expected), steps
    assert [step[: len(start)] for step, start in zip(steps, expected, strict=True)] == expected


def test_the_plan_of_an_image_that_is_called_after_ecr(capfd):
    name = "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/team/model:v1"
    assert main(["push", name, "--dry-run", "--json"]) == 0
    steps = [step["do"] for step in json.loads(capfd.readouterr().out)["steps"]]
    assert not any("aws sts" in step for step in steps)
    assert any(
        "--region cn-north-1" in step and "--registry-id 123456789012" in step for step in steps
    )
    assert f"PUT https://{name.replace('/', '/v2/', 1).replace(':v1', '/manifests/v1')}" in steps


def test_a_name_in_the_local_region_is_one_in_ecr(capfd, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:8321")
    name = "127.0.0.1:8321/team/model:v1"
    assert main(["push", name, "--dry-run", "--region", "eu-west-1"]) == 0
    assert "/v2/team/model/manifests/v1" in capfd.readouterr().out


def test_the_plan_from_another_accounts_registry(capfd):
    source = "docker://763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-inference:2.6"
    assert main(["push", source, "--dry-run", "--region", "eu-west-1"]) == 0
    out = capfd.readouterr().out
    assert "get-authorization-token --region us-east-1  # a login for account 763104351884" in out
    assert "docker save" not in out


def test_only_the_digest_is_on_stdout(image, capfd):
    with registry() as served:
        assert main(["push", image, "--registry", served.host, "--repository", "mine"]) == 0
        out, err = capfd.readouterr()
        _, digest = served.manifests.popitem()[0]
        digest = digest if digest.startswith("sha256:") else served.manifests.popitem()[0][1]
        assert out == f"{served.host}/mine@{digest}\n"
        assert "layer 1 of 1" in err
        assert "\r" not in err
        assert ("mine", "1") in served.manifests  # the archive's own tag


def test_the_result_as_json(image, capfd):
    with registry() as served:
        assert main(["push", image, "--registry", served.host, "--json", "-t", "2"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["schema"] == console.SCHEMA
    assert found["image"] == f"{served.host}/x@{found['digest']}"
    assert found["tag"] == "2"
    assert found["platform"] == "linux/amd64"
    assert [layer["how"] for layer in found["layers"]] == ["sent"]
    assert found["already_there"] is False


def test_the_plan_is_what_is_done(image, capfd):
    """Each request of a push is one that its plan has, in the plan's order."""
    with registry() as served:
        asked = ["push", image, "--registry", served.host, "--repository", "mine", "-t", "2"]
        assert main([*asked, "--dry-run", "--json"]) == 0
        steps = json.loads(capfd.readouterr().out)["steps"]
        assert served.log == []
        assert main(asked) == 0
    planned = [step["do"] for step in steps if "://" in step["do"] or "LOCATION" in step["do"]]
    planned = [do.replace(f"http://{served.host}", "") for do in planned]

    def shown(line):
        method, path = line.split(" ")
        if path.startswith("/v2/mine/blobs/uploads/") and method == "PUT":
            return "PUT LOCATION?digest=DIGEST"
        return f"{method} {re.sub('sha256:[0-9a-f]{64}', 'DIGEST', path)}"

    done = [shown(line) for line in served.log]
    assert set(done) == set(planned)
    # By their first time: several layers take turns.
    assert list(dict.fromkeys(done)) == list(dict.fromkeys(planned))


class RecordedEcr:
    """ECR with the repository, or without it, that writes down the calls it gets."""

    def __init__(self, *, is_there):
        self.is_there = is_there
        self.commands = []

    def call(self, call):
        self.commands.append(call.command("eu-west-1"))
        if call.operation == "DescribeRepositories" and not self.is_there:
            raise AwsError("RepositoryNotFoundException", "x", hint="y")
        if call.operation == "GetLifecyclePolicy":
            raise AwsError("LifecyclePolicyNotFoundException", "x", hint="y")
        found = {"repositoryUri": "h/mine", "imageScanningConfiguration": {"scanOnPush": False}}
        return {"repositories": [found], "repository": found}


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("options", [[], ["--immutable", "--scan", "--lifecycle", "3"]])
def test_the_plan_has_each_call_of_ecr(is_there, options):
    """In its order; what depends on the repository's state says so."""
    parser = argparse.ArgumentParser()
    push.add_arguments(parser)
    words = ["mine:1", "--region", "eu-west-1", "--account", "123456789012", *options]
    request = parse_request(parser.parse_args(words))
    steps = push_plan.plan(request, "eu-west-1")
    cloud = RecordedEcr(is_there=is_there)
    ecr.ensure(cloud, request.wanted("123456789012"))
    planned = [step.do for step in steps]
    places = [planned.index(command) for command in cloud.commands]
    assert places == sorted(places)
    always = {step.do for step in steps if "repositor" in step.do and not step.why}
    assert always <= set(cloud.commands)


def test_a_login_does_not_cross_a_network_readable():
    assert push._is_plain("https://r.example", insecure=False) is False
    assert push._is_plain("http://127.0.0.1:8321", insecure=False) is False
    assert push._is_plain("http://[::1]:8321", insecure=False) is False
    with pytest.raises(RequestError, match="has no TLS") as caught:
        push._is_plain("http://region.example:8321", insecure=False)
    assert "--insecure" in caught.value.hint
    assert push._is_plain("http://region.example:8321", insecure=True) is True
