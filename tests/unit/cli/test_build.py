"""`byoc build` with a docker client that writes down what it is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from sagemaker_byoc.cli import settings
from sagemaker_byoc.cli.main import main
from sagemaker_byoc.local.errors import RequestError

FAKE = """#!{python}
import json, os, sys, time
words = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps([words, os.environ.get("DOCKER_BUILDKIT"), os.getpid()]) + "\\n")
if words == ["--version"]:
    print("Docker version 20.10.24, build 1")
elif words[0] == "version":
    print("20.10.24")
elif words[:2] == ["image", "inspect"] and "--format" in words:
    print("sha256:" + "1" * 64)
elif words[0] == "image":
    print(json.dumps([{{"Id": "sha256:" + "2" * 64}}]))
elif words[0] == "build":
    print("Step 1/1")
    time.sleep({sleep})
    sys.exit({code})
else:
    sys.exit(1)
"""


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """Called with its exit code and how long it builds; then every call it got."""
    log = tmp_path / "log"
    path = tmp_path / "docker"

    def prepare(code=0, sleep=0):
        path.write_text(FAKE.format(python=sys.executable, log=str(log), code=code, sleep=sleep))
        path.chmod(0o755)
        return lambda: [json.loads(line) for line in log.read_text().splitlines()]

    monkeypatch.setenv("DOCKER", str(path))
    monkeypatch.delenv("DOCKER_BUILDKIT", raising=False)
    return prepare


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    (folder / "program").mkdir(parents=True)
    (folder / "program" / "train.py").write_text("")
    (folder / "Dockerfile.train").write_text("FROM x\n")
    (folder / "pyproject.toml").write_text(
        '[tool.byoc]\nname = "mine"\n'
        '[tool.byoc.build]\nargs = {TORCH = "cpu", VERSION = 1.10}\n'
        '[tool.byoc.train]\nprogram = "program"\nchannels = {a = "data", b = "s3://x/y"}\n'
        "hyperparameters = {epochs = 3, fast = true, rate = 1.10, sizes = [1, 2]}\n"
    )
    monkeypatch.chdir(folder)
    return folder


def build_of(calls):
    (call,) = [call for call in calls if call[0][0] == "build"]
    return call


def after(words, flag):
    return [words[at + 1] for at, word in enumerate(words) if word == flag]


def test_what_the_builder_is_told(docker, project, capfd):
    """By the table alone; the reference is all of stdout, the builder's words are stderr's."""
    calls = docker()
    assert main(["build", "train"]) == 0
    out, err = capfd.readouterr()
    words, buildkit, _ = build_of(calls())
    tag, latest = after(words, "--tag")
    assert (out, latest, buildkit) == (f"{tag}\n", "mine-train:latest", "1")
    assert tag.startswith("mine-train:")
    assert "Step 1/1" in err
    assert "BuildKit (of the docker engine 20.10.24)" in err
    assert after(words, "--platform") == ["linux/amd64"]
    assert after(words, "--build-arg") == ["TORCH=cpu", "VERSION=1.10"]
    assert after(words, "--file") == ["Dockerfile.train"]
    assert after(words, "--progress") == ["plain"]
    assert words[-1] == "."


def test_flags_win(docker, project, capfd):
    calls = docker()
    words = ["build", "train", "--tag", "host:5000/other:1", "--build-arg", "TORCH=cuda"]
    words += ["--label", "a=b", "--no-cache", "--pull", "--builder", "legacy", "--json"]
    assert main(words) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["image"] == "host:5000/other:1"
    assert found["tags"] == ["host:5000/other:1"]
    assert found["id"] == "sha256:" + "1" * 64
    told, buildkit, _ = build_of(calls())
    assert after(told, "--build-arg") == ["TORCH=cuda", "VERSION=1.10"]
    assert "a=b" in after(told, "--label")
    assert {"--no-cache", "--pull"} <= set(told)
    assert "--progress" not in told
    assert buildkit == "0"


def test_a_program_without_a_dockerfile_goes_on_the_toolkits_image(docker, tmp_path, capfd):
    calls = docker()
    program = tmp_path / "My Program"
    program.mkdir()
    (program / "train.py").write_text("")
    assert main(["build", "train", str(program / "train.py")]) == 0
    assert capfd.readouterr().out.startswith("my-program-train:")
    assert any(call[0] == ["image", "inspect", "byoc-train"] for call in calls())


def test_a_build_that_fails(docker, project, capfd):
    docker(code=3)
    assert main(["build", "train", "--progress", "quiet"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert "Step 1/1" in err
    assert "error[BUILD]: BuildKit" in err
    assert "exit code 3 at a line of Dockerfile.train" in err


@pytest.mark.slow
def test_a_build_that_takes_too_long_is_ended(docker, project, capfd):
    docker(sleep=60)
    assert main(["build", "train", "--timeout", "0.5"]) == 124
    out, err = capfd.readouterr()
    assert out == ""
    assert "error[TIME_LIMIT]" in err


@pytest.mark.slow
def test_ctrl_c_ends_the_builder_and_is_130(docker, project):
    """Nobody waits for the rest of it."""
    calls = docker(sleep=60)
    command = [sys.executable, "-m", "sagemaker_byoc.cli", "build", "train"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as byoc:
        assert any(b"* building" in line for line in byoc.stderr)
        log, deadline = project.parent / "log", time.monotonic() + 30
        while '["build"' not in log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        byoc.send_signal(signal.SIGINT)
        out, err = byoc.communicate(timeout=30)
    assert (byoc.returncode, out) == (130, b"")
    assert b"Traceback" not in err
    with pytest.raises(ProcessLookupError):
        os.kill(build_of(calls())[2], 0)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["build", "serve"], "no PROGRAM, and no [tool.byoc.serve] program"),
        (["build", "train", "absent"], "there is no program absent"),
        (["build", "train", "--file", "absent"], "absent can't be read"),
        (["build", "train", "-t", "Upper"], "'Upper' is not an image name"),
        (["build", "train", "-t", f"a@sha256:{'0' * 64}"], "holds a digest"),
        (["build", "train", "--build-arg", "A=1", "--build-arg", "A=2"], "'A' is given twice"),
        (["build", "train", "--engine", "process", "--pull"], "--pull is for an image"),
    ],
)
def test_refusals(words, what, docker, project, capfd):
    """Before anything is built."""
    calls = docker()
    assert main(words) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert what in err
    assert "  fix: " in err
    log = project.parent / "log"
    assert not log.exists() or not [call for call in calls() if call[0][0] == "build"]


def test_the_table(project):
    """As `byoc launch` reads it: values as they were written, channels of this machine only."""
    train = settings.read(project).programs["train"]
    assert train.hyperparameters == {
        "epochs": "3",
        "fast": "true",
        "rate": "1.10",
        "sizes": "[1, 2]",
    }
    assert train.channels == {"a": project / "data"}
    assert settings.read_for("train", None).program.name == "program"
    other = project / "program"
    assert settings.read_for("train", other) == settings.Program(program=other)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[tool.byoc", "can't be read"),
        ("tool.byoc = 3", "[tool.byoc] is no table"),
        ("[tool.byoc]\nname = 3", "[tool.byoc] name is 3"),
        ("[tool.byoc]\ntrain = 3", "[tool.byoc.train] is no table"),
        ("[tool.byoc.train]\nchannels = {a = 3}", "channels.a is 3"),
    ],
)
def test_a_table_that_is_wrong(text, what, tmp_path):
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(RequestError) as refusal:
        settings.read(tmp_path)
    assert what in refusal.value.what


def test_no_table_is_no_project(tmp_path):
    assert settings.read(tmp_path) is None
    (tmp_path / "pyproject.toml").write_text("[tool.other]\n")
    assert settings.read(tmp_path) is None
