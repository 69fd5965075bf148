"""The command line: exit codes, where words go, and a hint with every refusal."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys

import pytest

from sagemaker_byoc.cli.main import main
from sagemaker_byoc.cli.programs import parse_pairs, parse_program
from sagemaker_byoc.cli.terminal.arguments import pair

BYOC = [sys.executable, "-m", "sagemaker_byoc.cli"]


@pytest.fixture
def program(tmp_path):
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "train.py").write_text("import sys; sys.exit(int(sys.argv[2]))")
    return folder


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "/nonexistent"], "no program /nonexistent"),
        (["train", ".", "--hp", "epochs"], "'epochs' is not KEY=VALUE"),
        (["train", ".", "--hp", "a=1", "a=2"], "'a' is given twice"),
        (["train", ".", "--channel", "train=/nonexistent"], "no folder /nonexistent"),
        (["train", ".", "--channel", "a/b=."], "not a legal channel name"),
        (["train", ".", "--mount"], "--mount needs --engine docker"),
        (["train", ".", "--image", "mine"], "--image needs --engine docker"),
        (["serve", "--model", ".", "--image", "mine"], "--image needs --engine docker"),
        (["train", ".", "--name", "a_b"], "not a legal job name"),
        (["serve", "--model", "/nonexistent"], "no model /nonexistent"),
    ],
)
def test_a_wrong_request_is_exit_2_with_a_hint(arguments, words, capfd, tmp_path, monkeypatch):
    """Nothing on stdout, no traceback, the wrong value and what to do."""
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert words in err
    assert "fix: " in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [[], ["dance"], ["serve"], ["serve", "--model", ".", "--port", "x"]]
)
def test_usage_is_exit_2(arguments, capsys):
    """argparse's own refusals have the same code."""
    assert main(arguments) == 2
    assert "fix: " in capsys.readouterr().err


def test_no_docker_is_exit_3(program, monkeypatch, capfd, tmp_path):
    """The machine lacks something, the request is fine."""
    monkeypatch.setenv("DOCKER", "/nonexistent/docker")
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(program), "--engine", "docker"]) == 3
    assert "--engine process" in capfd.readouterr().err


@pytest.mark.parametrize(("code", "exit_code"), [("0", 0), ("3", 1)])
def test_job_decides_the_exit_code(program, code, exit_code, capfd, tmp_path):
    """0 for a completed job, 1 for a failed one, whatever its own code was."""
    output = tmp_path / "out"
    assert (
        main(["train", str(program), "--hp", f"code={code}", "--output", str(output)]) == exit_code
    )
    out, err = capfd.readouterr()
    assert out == ""
    assert f"exit code {code}" in err


def test_a_file_can_be_the_program(tmp_path):
    """Its folder is the program's, and it is what is started."""
    file = tmp_path / "other.py"
    file.write_text("")
    program = parse_program(file)
    assert (program.folder, program.entry_point) == (tmp_path, "other.py")


def test_value_may_hold_equals_signs():
    """Only the first one splits."""
    assert parse_pairs("--hp", map(pair, ["a=b=c", "d="])) == {"a": "b=c", "d": ""}
    with pytest.raises(argparse.ArgumentTypeError):
        pair("=x")


@pytest.mark.slow
def test_ctrl_c_stops_the_job_and_is_exit_130(tmp_path):
    """The program saves what it has; the artifact is kept and named on stdout."""
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "train.py").write_text(
        "import os, signal, sys\n"
        "def save(*_):\n"
        "    open(os.environ['SM_MODEL_DIR'] + '/saved', 'w').close()\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "print('training')\n"
        "signal.pause()\n"
    )
    command = [*BYOC, "train", str(folder), "--output", str(tmp_path / "out")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert any(line == "algo-1 | training\n" for line in process.stderr)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Stopped" in err
    assert out.strip() == str(tmp_path / "out" / "model.tar.gz")
