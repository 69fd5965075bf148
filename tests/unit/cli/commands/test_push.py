"""`byoc push` from the command line: misuse, the plan, and what goes where."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shlex

import pytest
from tests.unit.images import made
from tests.unit.images.served import registry

from sagemaker_byoc.cli import push_plan
from sagemaker_byoc.cli.commands import push
from sagemaker_byoc.cli.main import main
from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.cloud import ecr
from sagemaker_byoc.cloud.session import AwsError
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.images.push import copying, programs


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
    if not programs.has_skopeo():
        pytest.skip("skopeo is not installed")
    layer = made.layer({"train": b"#!/bin/sh\n"})
    document = made.config(Entrypoint=["train"])
    document["rootfs"]["diff_ids"] = [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    return str(made.saved(tmp_path / "image.tar", document, layer))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: IMAGE"),
        (["xy", "--tag", "a b"], "'a b' is not a tag"),
        (["xy", "--tag", 200 * "a"], "is not a tag"),
        (["xy", "--repository", "Upper"], "'Upper' is not a name of an ECR repository"),
        (["xy", "--repository", "a"], "'a' is not a name of an ECR repository"),
        (["Upper"], "'Upper' is not an image name"),
        (["xy", "--region", "Ireland"], "'Ireland' is not a region"),
        (["xy"], "no region is set"),
        (["xy", "--region", "eu-west-1", "--account", "12"], "'12' is not an account id"),
        (["xy", "--lifecycle", "0"], "'0' is not a number of images"),
        (["xy", "--lifecycle", "many"], "'many' is not a number of images"),
        (["xy", "--immutable", "--mutable"], "not allowed with argument"),
        (["xy", "--platform", "windows/amd64"], "invalid choice"),
        (["xy", "--registry", "http://x"], "'http://x' is not a registry"),
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


@pytest.mark.parametrize("program", ["skopeo", "docker", "docker alone"])
def test_the_plan_is_a_list_of_commands(capfd, monkeypatch, program):
    """The engine, which the plan depends on, does not answer, or pushes Docker's types."""
    with_skopeo = program == "skopeo"
    monkeypatch.setattr(programs, "has_skopeo", lambda: program != "docker alone")
    if program == "docker":
        monkeypatch.setattr(copying, "_engine_fits", lambda *_, **__: True)
        for name in ("SSL_CERT_FILE", "AWS_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
    options = ["--immutable", "--scan", "--lifecycle", "3", "--region", "eu-west-1"]
    assert main(["push", "my-serve:7", "--dry-run", *options]) == 0
    out, err = capfd.readouterr()
    assert not err
    steps = out.splitlines()
    name = "ACCOUNT.dkr.ecr.eu-west-1.amazonaws.com/my-serve:7"
    url = f"https://{name.replace('/', '/v2/').replace(':7', '')}"
    copied = [
        f"/nonexistent/docker tag my-serve:7 {name}",
        f"/nonexistent/docker push {name}",
        f"/nonexistent/docker rmi {name}",
    ]
    if with_skopeo:
        copied = [
            "/nonexistent/docker save --output PRIVATE_FOLDER/image.tar my-serve:7",
            "skopeo --debug --insecure-policy",
        ]
    expected = [
        "aws sts get-caller-identity",
        "aws ecr get-authorization-token",
        "/nonexistent/docker image inspect my-serve:7",
        "aws ecr describe-repositories",
        "aws ecr create-repository",
        "aws ecr put-image-tag-mutability",
        "aws ecr put-image-scanning-configuration",
        "aws ecr get-lifecycle-policy",
        "aws ecr put-lifecycle-policy",
        f"GET {url}/manifests/7",
        *copied,
        f"GET {url}/manifests/7",
        f"GET {url}/blobs/DIGEST",
        "aws ecr describe-images",
    ]
    assert len(steps) == len(expected), steps
    assert [step[: len(start)] for step, start in zip(steps, expected, strict=True)] == expected
    if with_skopeo:
        copy = next(step for step in steps if step.startswith("skopeo"))
        assert f"docker-archive:PRIVATE_FOLDER/image.tar docker://{name}" in copy
        assert "--override-os linux --override-arch amd64 copy --format v2s2" in copy


def test_the_plan_of_an_image_that_is_called_after_ecr(capfd):
    name = "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/team/model:v1"
    assert main(["push", name, "--dry-run", "--json"]) == 0
    steps = [step["do"] for step in json.loads(capfd.readouterr().out)["steps"]]
    assert not any("aws sts" in step for step in steps)
    assert any(
        "--region cn-north-1" in step and "--registry-id 123456789012" in step for step in steps
    )
    assert f"GET https://{name.replace('/', '/v2/', 1).replace(':v1', '/manifests/v1')}" in steps


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


@pytest.mark.slow
def test_only_the_digest_is_on_stdout(image, capfd):
    with registry() as served:
        assert main(["push", image, "--registry", served.host, "--repository", "mine"]) == 0
        out, err = capfd.readouterr()
        _, digest = served.manifests.popitem()[0]
        digest = digest if digest.startswith("sha256:") else served.manifests.popitem()[0][1]
        assert out == f"{served.host}/mine@{digest}\n"
        assert re.search(r"layer 1  [0-9a-f]{12}  sent", err)
        assert "\r" not in err
        assert ("mine", "1") in served.manifests  # the archive's own tag


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_plan_is_what_is_done(image, capfd, monkeypatch):
    """Each request and command of a push is one that its plan has, in the plan's order."""
    run = programs.run
    with registry() as served:

        def recorded(words, line, **more):
            before = [*served.log]
            run(words, line, **more)
            served.log[:] = [*before, shlex.join(words)]

        monkeypatch.setattr(programs, "run", recorded)
        asked = ["push", image, "--registry", served.host, "--repository", "mine", "-t", "2"]
        assert main([*asked, "--dry-run", "--json"]) == 0
        steps = json.loads(capfd.readouterr().out)["steps"]
        assert served.log == []
        assert main(asked) == 0
    planned = [step["do"].replace(f"http://{served.host}", "") for step in steps]
    folder = next(word for word in served.log[1].split() if "byoc-push-" in word)
    done = [
        re.sub("sha256:[0-9a-f]{64}", "DIGEST", line.replace(folder, "PRIVATE_FOLDER"))
        for line in served.log
    ]
    assert [f"read {image}", *done] == planned


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
    request = push_plan.parse_request(parser.parse_args(words))
    _, steps = push_plan.plan(request, push._Screen(is_terminal=False))
    cloud = RecordedEcr(is_there=is_there)
    for _, _, act in ecr.Ensuring(cloud, request.wanted("123456789012")).steps():
        act()
    planned = [step.do for step in steps]
    places = [planned.index(command) for command in cloud.commands]
    assert places == sorted(places)
    always = {step.do for step in steps if "describe-repositor" in step.do and not step.why}
    assert always <= set(cloud.commands)


def test_a_login_does_not_cross_a_network_readable():
    assert push_plan.is_plain("https://r.example", insecure=False) is False
    assert push_plan.is_plain("http://127.0.0.1:8321", insecure=False) is False
    assert push_plan.is_plain("http://[::1]:8321", insecure=False) is False
    with pytest.raises(RequestError, match="has no TLS") as caught:
        push_plan.is_plain("http://region.example:8321", insecure=False)
    assert "--insecure" in caught.value.hint
    assert push_plan.is_plain("http://region.example:8321", insecure=True) is True
