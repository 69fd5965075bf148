"""What `byoc doctor` says of machines that are not this one."""

from __future__ import annotations

import json
import socket
import sys
import tomllib
from pathlib import Path

import pytest

from sagemaker_byoc.cli.commands import doctor
from sagemaker_byoc.cli.commands.doctor import ERROR, OK, WARNING, Machine
from sagemaker_byoc.cli.main import main
from sagemaker_byoc.host import docker

INFO = {"ServerVersion": "28.2.2", "Architecture": "x86_64", "Runtimes": {"runc": {}}}


def asked(information=INFO, **more):
    answers = {
        "--version": "Docker version 28.2.2, build 1",
        "info --format {{json .}}": json.dumps(information),
        "version --format {{.Server.Version}}": "28.2.2",
        "buildx version": "github.com/docker/buildx v0.24.0",
        "buildx build --help": "--provenance",
        "image inspect byoc-train": "[]",
        "image inspect byoc-serve": "[]",
    } | {key.replace("_", " "): value for key, value in more.items()}
    return lambda command: answers.get(" ".join(command[1:]))


def here(tmp_path, ask=None, **variables):
    return Machine(
        environment=variables,
        ask=ask or asked(),
        explain=lambda _: docker.unreachable("error during connect: EOF"),
        home=tmp_path,
        driver=tmp_path / "no-driver",
    )


def states(checks):
    return {check.id: check.state for check in checks}


def test_a_machine_with_everything(tmp_path):
    found = states(doctor.examine(here(tmp_path)))
    assert {found[f"DOC{n:03}"] for n in (1, 4, 5, 6, 7, 8)} == {OK}


@pytest.mark.parametrize(
    ("variables", "needs", "state"),
    [({}, False, WARNING), ({"DOCKER": "/x"}, False, ERROR), ({}, True, ERROR)],
)
def test_no_client(tmp_path, variables, needs, state):
    """It is an error only where somebody wants it; then nothing of an engine is asked."""
    look = Machine(
        environment=variables,
        ask=lambda _: None,
        explain=lambda _: docker.explain(["/x"]),
        home=tmp_path,
        needs_docker=needs,
    )
    found = {check.id: check for check in doctor.examine(look)}
    assert found["DOC004"].state == state
    assert "DOCKER" in found["DOC004"].fix
    assert not {"DOC005", "DOC006", "DOC007"} & set(found)


@pytest.mark.parametrize("answer", [None, "{", json.dumps({"ServerErrors": ["no daemon"]})])
def test_an_engine_that_does_not_answer(tmp_path, answer):
    look = here(tmp_path, asked(**{"info_--format_{{json_.}}": answer}))
    check, information = doctor.docker(look)
    assert (check.state, information) == (WARNING, None)
    assert "DOCKER_HOST" in check.fix
    look.needs_docker = True
    assert doctor.docker(look)[0].state == ERROR


def test_a_row_for_each_extra(monkeypatch):
    """It says what the extra is for, what is missing, and the command that adds it."""
    monkeypatch.setattr(
        doctor.installation, "missing", lambda extra: ["boto3"] if extra == "cloud" else []
    )
    found = {check.title: check for check in doctor.extras()}
    project = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())["project"]
    assert set(found) == {f"extra {name}" for name in project["optional-dependencies"]} - {
        "extra dev"
    }
    cloud = found.pop("extra cloud")
    assert cloud.state == WARNING
    assert cloud.found == "for `byoc push` and `byoc launch` in AWS: boto3 missing"
    assert "[cloud]" in cloud.fix
    assert all(check.state == OK and check.fix == "" for check in found.values())


def test_an_arm_engine_and_a_legacy_builder(tmp_path):
    look = here(tmp_path, asked({**INFO, "Architecture": "aarch64"}, buildx_version=None))
    found = {check.id: check for check in doctor.examine(look)}
    assert found["DOC005"].state == found["DOC006"].state == WARNING
    assert "binfmt" in found["DOC005"].fix
    assert "docker-buildx" in found["DOC006"].fix


@pytest.mark.parametrize(
    ("information", "state"),
    [
        (INFO, WARNING),
        ({**INFO, "Runtimes": {"nvidia": {}}}, OK),
        ({**INFO, "CDISpecDirs": ["/etc/cdi"]}, OK),
        (None, OK),
    ],
)
def test_gpus(tmp_path, information, state):
    driver = tmp_path / "version"
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar 5\n")
    look = Machine(environment={}, home=tmp_path, driver=driver)
    check = doctor.gpu(look, information)
    assert check.state == state
    assert "550.54.15" in check.found


@pytest.mark.parametrize(("free", "state"), [(10**9, ERROR), (10**10, WARNING), (10**12, OK)])
def test_disk(free, state, monkeypatch):
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert doctor.disk({"DockerRootDir": "/nonexistent"}).state == state


def test_a_port_that_is_taken(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(doctor, "_REGION_PORT", taken.getsockname()[1])
        found = {check.id: check for check in doctor.ports()}
    assert found["DOC011"].state == WARNING


@pytest.mark.parametrize(
    ("variables", "state", "says"),
    [
        ({}, WARNING, "none"),
        ({"AWS_ACCESS_KEY_ID": "AKIAX", "AWS_SECRET_ACCESS_KEY": "s3cret"}, OK, "environment"),
        ({"AWS_ACCESS_KEY_ID": "AKIAX"}, ERROR, "without"),
        (
            {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "B", "AWS_PROFILE": "p"},
            WARNING,
            "which wins",
        ),
        ({"AWS_PROFILE": "absent"}, ERROR, "no profile 'absent'"),
        ({"AWS_PROFILE": "work"}, OK, "profile 'work'"),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/t"}, OK, "web identity"),
    ],
)
def test_credentials(tmp_path, variables, state, says):
    """Where they come from, and never what they are."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(
        "[profile work]\nregion = eu-west-1\naws_secret_access_key = s3cret\n"
    )
    check = doctor.credentials(here(tmp_path, **variables))
    assert check.state == state
    assert says in check.found
    assert "s3cret" not in check.found + check.fix
    assert "AKIAX" not in check.found


def test_region(tmp_path):
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[profile work]\nregion = eu-west-1\n[broken\n")
    assert doctor.region(here(tmp_path, AWS_PROFILE="work")).state == WARNING
    (tmp_path / ".aws" / "config").write_text("[profile work]\nregion = eu-west-1\n")
    assert "eu-west-1" in doctor.region(here(tmp_path, AWS_PROFILE="work")).found
    assert doctor.region(here(tmp_path, AWS_REGION="us-east-1")).state == OK
    assert doctor.region(here(tmp_path)).state == WARNING


def test_an_endpoint_where_nothing_answers(tmp_path):
    """Every AWS client of this shell would fail."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    check = doctor.endpoint(here(tmp_path, AWS_ENDPOINT_URL=url))
    assert check.state == ERROR
    assert "unset AWS_ENDPOINT_URL" in check.fix
    assert doctor.endpoint(here(tmp_path)).state == OK


def test_the_command(monkeypatch, capsys):
    """0 where nothing needed is broken, 1 where the engine that is asked for is not there."""
    for name in ("DOCKER", "AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    assert main(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True
    assert document["checks"][0]["found"].endswith(sys.executable)
    assert main(["doctor", "--engine", "docker"]) == 1
    out, err = capsys.readouterr()
    assert "error    DOC004" in out
    assert "fix: Install docker" in out
    assert "* 1 error, " in err
