"""`byoc build` with a docker client that writes down what it is told."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from sagemaker_byoc.cli import programs
from sagemaker_byoc.cli.main import main
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.host import owners

FAKE = r"""#!/bin/sh
printf '%s\036' "$DOCKER_BUILDKIT" $$ "$@" >> {log}
printf '\n' >> {log}
case "$*" in
--version) echo "Docker version 20.10.24, build 1" ;;
version*) echo 20.10.24 ;;
image\ inspect*.Id*) echo sha256:{ones} ;;
image\ inspect*.Config.Labels*) echo {labels} ;;
image\ inspect*--format*) echo null ;;
run\ *) echo "cuda: Optional[str] = '11.8'" ;;
tag\ * | image\ rm*) ;;
image\ ls*) printf '%s\n' {tags} ;;
image\ *) echo '[{{"Id": "sha256:{twos}"}}]' ;;
build\ *)
    printf 'Step 1/1 \033]0;title\007\033[2J 10%%\r 20%%\n'
    [ {sleep} = 0 ] || exec sleep {sleep}
    exit {code} ;;
*) exit 1 ;;
esac
"""


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """Called with its exit code and how long it builds; then every call it got."""
    log = tmp_path / "log"
    path = tmp_path / "docker"

    def prepare(code=0, sleep=0, labels="null", tags=()):
        path.write_text(
            FAKE.format(
                log=shlex.quote(str(log)),
                code=code,
                sleep=sleep,
                labels=shlex.quote(labels),
                tags=shlex.join(tags),
                ones="1" * 64,
                twos="2" * 64,
            )
        )
        path.chmod(0o755)
        return calls

    def calls():
        """Yield the words of each call, its DOCKER_BUILDKIT and its process."""
        for line in log.read_text().split("\036\n")[:-1]:
            buildkit, process, *words = line.split("\036")
            yield words, buildkit, int(process)

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
    (tag,) = after(words, "--tag")
    assert (out, buildkit) == ("mine-train:111111111111\n", "1")
    named = [call[0] for call in calls() if call[0][0] == "tag" or call[0][:2] == ["image", "rm"]]
    assert named == [
        ["tag", tag, "mine-train:111111111111"],
        ["tag", tag, "mine-train:latest"],
        ["image", "rm", tag],
    ]
    assert " 20%\n" in err
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


def test_labels_say_which_torch_is_there(docker, project, capfd):
    """Not which the argument asked for: requirements.txt was allowed to replace it."""
    calls = docker(labels='{"sagemaker-byoc.torch": "other", "sagemaker-byoc.cuda": "12.8"}')
    assert main(["build", "train", "--tag", "mine:1"]) == 0
    assert "labels by the torch that is installed: " in capfd.readouterr().err
    _, stamp = [call[0] for call in calls() if call[0][0] == "build"]
    assert after(stamp, "--label") == [
        "sagemaker-byoc.cuda=11.8",
        "sagemaker-byoc.driver=450.80",
        "sagemaker-byoc.torch=cuda11",
    ]
    assert (after(stamp, "--tag"), stamp[-1]) == (["mine:1"], "-")


@pytest.mark.parametrize("name", ["Dockerfile", "train.Dockerfile", "Containerfile"])
def test_a_folder_with_a_dockerfile_is_a_users_image(name, docker, tmp_path, monkeypatch, capfd):
    """It is built as `docker build` would, and said; never put on the toolkit's image instead."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / name).write_text("FROM x\n")
    (tmp_path / "theirs" / "train.py").write_text("")
    calls = docker()
    assert main(["build", "train", str(tmp_path / "theirs")]) == 0
    words, _, _ = build_of(calls())
    assert after(words, "--file") == [str(tmp_path / "theirs" / name)]
    said = "is built as it is, since there is no Dockerfile.train"
    assert (said in capfd.readouterr().err) == ("train" not in name)
    assert main(["build", "train", str(tmp_path / "theirs" / "train.py")]) == 0
    assert any(call[0] == ["image", "inspect", "byoc-train"] for call in calls())


def test_a_file_that_is_like_a_dockerfile_is_named(docker, tmp_path, capfd):
    docker()
    (tmp_path / "Dockerfile-gpu").write_text("FROM x\n")
    (tmp_path / "Dockerfile.serve").write_text("FROM x\n")
    (tmp_path / "train.py").write_text("")
    assert main(["build", "train", str(tmp_path)]) == 0
    assert "Dockerfile-gpu is not built; --file Dockerfile-gpu would" in capfd.readouterr().err


def test_a_dockerfile_of_the_table_is_never_replaced(docker, project, capfd):
    docker()
    table = '[tool.byoc.train]\nprogram = "program"\ndockerfile = "gone/Dockerfile"\n'
    (project / "pyproject.toml").write_text(table)
    assert main(["build", "train"]) == 2
    assert "gone/Dockerfile can't be read" in capfd.readouterr().err


def test_secrets_are_passed_on_to_buildkit(docker, project, capfd, monkeypatch):
    """By the place they are read from: no value is in an argument, a label or a log."""
    calls = docker()
    monkeypatch.setenv("HF_TOKEN", "s3cret-word")
    (project / "pip.conf").write_text("s3cret-word")
    words = ["--secret", "id=pip,src=pip.conf", "--secret", "id=HF_TOKEN", "--secret"]
    assert main(["build", "train", *words, "id=hf,env=HF_TOKEN"]) == 0
    told, _, _ = build_of(calls())
    expected = ["id=pip,src=pip.conf", "id=HF_TOKEN,env=HF_TOKEN", "id=hf,env=HF_TOKEN"]
    assert after(told, "--secret") == expected
    assert "s3cret-word" not in "".join([*capfd.readouterr(), (project.parent / "log").read_text()])


def test_what_a_step_prints_can_not_steer_the_terminal(docker, project, capfd):
    docker()
    assert main(["build", "train", "--builder", "legacy"]) == 0
    err = capfd.readouterr().err
    assert "20%" in err
    assert not {"\x1b", "\x07", "\r"} & {*err}


def test_a_quiet_build_explains_its_failure_and_nothing_else(docker, project, capfd):
    docker()
    assert main(["--quiet", "build", "train"]) == 0
    assert capfd.readouterr() == ("mine-train:111111111111\n", "")
    docker(code=3)
    assert main(["--quiet", "build", "train"]) == 1
    err = capfd.readouterr().err
    assert err.startswith(" 20%\nerror[BUILD]")


def test_the_tag_of_a_build_that_was_killed_is_removed(docker, project):
    """Only tags of this repository, and only if their process has ended."""
    pid, start, *rest = owners.me().split("/")
    dead, alive = (
        "byoc-building-" + ".".join((pid, number, *rest)) for number in (f"{start}0", start)
    )
    calls = docker(tags=("latest", dead, alive, "byoc-building-other"))
    assert main(["build", "train", "--tag", "mine:1"]) == 0
    removed = [call[0][2] for call in calls() if call[0][:2] == ["image", "rm"]]
    assert removed == [f"mine:{dead}"]


def test_the_process_engine_leaves_out_what_an_image_does(project, capfd, tmp_path):
    program = project / "program"
    (program / ".dockerignore").write_text("data\n*.log\n")
    (program / "data").mkdir()
    for name in ("data/x.csv", "a.log", ".env", "used.py"):
        (program / name).write_text("x")
    os.mkfifo(program / "pipe")
    state = tmp_path / "state"
    words = ["build", "train", "program", "--engine", "process", "--state", str(state)]
    assert main(words) == 0
    assert "left out: .env" in capfd.readouterr().err
    names = {path.name for path in state.rglob("*")}
    assert {"train.py", "used.py"} <= names
    assert not {"x.csv", "a.log", ".env", "pipe"} & names


def test_a_build_that_fails(docker, project, capfd):
    docker(code=3)
    assert main(["build", "train", "--progress", "quiet"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert " 20%\n" in err
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
        while "\036build\036" not in log.read_text():
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
        (["build", "train", "--engine", "process", "--secret", "id=a"], "--secret is for an image"),
        (["build", "train", "--secret", "id=a,src=absent"], "--secret a: there is no file absent"),
        (["build", "train", "--secret", "id=NOT_SET"], "the variable NOT_SET is not set"),
        (["build", "train", "--secret", "pip.conf"], "is not a secret of BuildKit's"),
        (["build", "train", "--sbom", "absent/x.json"], "--sbom absent/x.json: there is no such"),
        (
            ["build", "train", "--build-arg", "HF_TOKEN=abcd1234efgh"],
            "--build-arg HF_TOKEN is by its name a secret",
        ),
        (
            ["build", "train", "--build-arg", "PIP_INDEX_URL=https://me:secret-1@example.com/"],
            "--build-arg PIP_INDEX_URL holds a password in a URL",
        ),
        (
            ["build", "train", "--label", "DB_PASS=abcdefgh"],
            "--label DB_PASS is by its name a secret",
        ),
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
    train = programs.read_project(project).programs["train"]
    assert train.hyperparameters == {
        "epochs": "3",
        "fast": "true",
        "rate": "1.10",
        "sizes": "[1, 2]",
    }
    assert train.channels == {"a": project / "data"}
    assert programs.read_settings("train", None).program.name == "program"
    other = project / "program"
    assert programs.read_settings("train", other) == programs.ProgramSettings(program=other)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[tool.byoc", "can't be read"),
        ("tool.byoc = 3", "[tool.byoc] is '3', not a table"),
        ("[tool.byoc]\nname = 3", "[tool.byoc]: name is '3'"),
        ("[tool.byoc]\ntrain = 3", "[tool.byoc.train] is '3', not a table"),
        ("[tool.byoc.train]\nchannels = {a = 3}", "channels.a is '3', not a table"),
    ],
)
def test_a_table_that_is_wrong(text, what, tmp_path):
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(RequestError) as refusal:
        programs.read_project(tmp_path)
    assert what in refusal.value.what


def test_no_table_is_an_empty_project(tmp_path):
    empty = {kind: programs.ProgramSettings() for kind in programs.KINDS}
    nothing = programs.Project(name="", arguments={}, programs=empty)
    assert programs.read_project(tmp_path) == nothing
    (tmp_path / "pyproject.toml").write_text("[tool.other]\n")
    assert programs.read_project(tmp_path) == nothing
