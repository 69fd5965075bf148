"""Options of the user's program, causes of failures, and how much is said."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sagemaker_byoc.cli.commands import serve, train
from sagemaker_byoc.cli.main import main, parser
from sagemaker_byoc.cli.programs import Program
from sagemaker_byoc.cli.terminal import console, failures
from sagemaker_byoc.cli.terminal.arguments import hyperparameters_last
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.host import aws_calls, docker
from sagemaker_byoc.standalone.training_job import Status, TrainingResult

BYOC = [sys.executable, "-m", "sagemaker_byoc.cli"]
ROOT = parser()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two").mkdir()
    for name in ("a.py", "b.py"):
        (tmp_path / "two" / name).write_text("import sys; print(sys.argv[1:])")
    return tmp_path


# ── options of the user's program ──


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("train prog --epochs 3", "byoc train prog --hp epochs=3"),
        ("train --epochs 3 prog", "byoc train prog --hp epochs=3"),
        ("train prog --lr=0.1 --flag", "byoc train prog --hp lr=0.1 flag=True"),
        ("train prog --momentum -0.9", "byoc train prog --hp momentum=-0.9"),
        ("train --flag --n 3 prog", "byoc train prog --hp flag=True n=3"),
        ("train 'UPPER Case' --text 'a; b'", "byoc train 'UPPER Case' --hp 'text=a; b'"),
        (
            "train --hp a=1 prog --n 3 --engine docker",
            "byoc train prog --engine docker --hp n=3 a=1",
        ),
        ("check image --n 3 --train", "byoc check image --train --hp n=3"),
    ],
)
def test_an_option_of_the_program_is_answered_with_the_right_line(words, line, capsys):
    """It can be pasted, and it parses. Ours can't be meant: none resembles it."""
    assert main(shlex.split(words)) == failures.USAGE
    fix = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(r"  fix: To pass .* to the program: (.*)", fix)[1] == line
    assert ROOT.parse_args(shlex.split(line)[1:]).hp


@pytest.mark.parametrize(
    ("words", "flag"),
    [("train prog --engin docker", "--engine"), ("train prog --chanel a=b", "--channel")],
)
def test_a_misspelled_option_of_ours_is_not_taken_for_the_programs(words, flag, capsys):
    assert main(words.split()) == failures.USAGE
    assert f"Did you mean {flag}?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "pairs"),
    [
        ("--hp a=1 prog", ["a=1"]),
        ("--hp a=1 b=2 prog --engine process", ["a=1", "b=2"]),
        ("--hp a=1 --hp b=2 prog", ["a=1", "b=2"]),
        ("--hp=a=1 prog", ["a=1"]),
        ("prog --hp a=-1", ["a=-1"]),
        ("prog -- --epochs 3 --lr=0.1 --flag", ["epochs=3", "lr=0.1", "flag=True"]),
        ("prog --hp a=1 -- --flag --n -2", ["a=1", "flag=True", "n=-2"]),
        ("-q prog -- --quiet", ["quiet=True"]),
    ],
)
def test_hyperparameters_leave_the_program_alone(words, pairs):
    found = ROOT.parse_args(["train", *words.split()])
    assert (found.program, found.hp) == (Path("prog"), pairs)


def test_words_without_hyperparameters_stay_as_they_are():
    assert hyperparameters_last(["a", "--engine", "docker"]) == ["a", "--engine", "docker"]
    assert hyperparameters_last(["a", "--hp"]) == ["a", "--hp"]
    assert hyperparameters_last(["a", "--hp", "--json"]) == ["a", "--hp", "--json"]


@pytest.mark.parametrize("words", ["train --hp", "train --hp --json"])
def test_a_missing_value_is_said(words, capsys):
    assert main(words.split()) == failures.USAGE
    assert "--hp: expected at least one argument" in capsys.readouterr().err


# ── jobs, endpoints and their causes ──


@pytest.mark.slow
def test_two_files_to_choose_from(folder, capsys):
    """The hint is a command that works."""
    assert main(["train", "two"]) == failures.FAILED
    err = capsys.readouterr().err
    assert err.count("error[JOB]: AlgorithmError: ") == 1
    command = re.search(r"fix: Name the file: byoc (.*)\n", err)[1]
    assert command == "train two/a.py"
    assert main([*command.split(), "--", "--epochs", "3"]) == 0
    assert "['--epochs', '3']" in capsys.readouterr().err


@pytest.mark.slow
def test_a_cause_of_serve_stands_in_the_error_once(folder, capsys):
    """Not the log again, which is on the terminal; and the hint is for this command."""
    (folder / "model").mkdir()
    (folder / "model/model.pkl").write_bytes(b"\x80\x04N.")
    assert main(["serve", "--model", "model", "--port", "0"]) == failures.FAILED
    what, fix = capsys.readouterr().err.splitlines()[-2:]
    assert what.startswith(
        "error[ENDPOINT]: the serving container ended with exit code 1: model.pkl"
    )
    assert fix == "  fix: If that is what you want, add --env BYOC_ALLOW_PICKLE=1"


def test_serve_without_a_model_names_the_newest(folder, capsys):
    assert main(["serve"]) == failures.USAGE
    assert "fix: Name one: --model byoc-jobs/NAME/model.tar.gz" in capsys.readouterr().err
    for number, name in enumerate(("old", "UPPER Case")):
        (folder / "byoc-jobs" / name).mkdir(parents=True)
        archive = folder / "byoc-jobs" / name / "model.tar.gz"
        archive.write_bytes(b"")
        os.utime(archive, (number, number))
    assert main(["serve"]) == failures.USAGE
    assert "--model 'byoc-jobs/UPPER Case/model.tar.gz'\n" in capsys.readouterr().err


HANDLERS = "import no_such_package\n\ndef model_fn(model_dir):\n    return None\n"


def test_a_script_that_defines_model_fn_is_the_handler(folder, capsys):
    """As AWS's scripts do it; the usual file wins, and nothing is imported to find out."""
    (folder / "two/a.py").write_text(HANDLERS)
    (folder / "two/c.py").write_text("def model_fn(:")
    found = serve._program(Path("two"))
    assert found == Program(Path("two"), "a.py")
    assert "handlers: two/a.py, as there is no inference.py" in capsys.readouterr().err
    (folder / "two/b.py").write_text(HANDLERS)
    with pytest.raises(RequestError, match=r"a.py, b.py define model_fn\. .*byoc serve two/a.py"):
        serve._program(Path("two"))
    assert serve._program(Path("two/b.py")) == Program(Path("two"), "b.py")
    (folder / "two/predictor.py").touch()
    assert serve._program(Path("two")) == Program(Path("two"), None)


def test_handlers_that_are_not_asked_for_are_named(folder, capsys):
    (folder / "inference.py").write_text(HANDLERS)
    assert main(["serve", "--model", "none", "--port", "0"]) == failures.USAGE
    assert "./inference.py is not used: `byoc serve .` takes it" in capsys.readouterr().err


def test_the_folder_of_a_job_is_its_model(folder):
    """Another folder is a model itself, whatever its files are called."""
    (folder / "model.tar.gz").touch()
    assert serve._model(folder) == folder
    (folder / "run.json").touch()
    assert serve._model(folder) == folder / "model.tar.gz"


def test_a_file_in_the_place_of_a_folder(folder, capsys):
    (folder / "rows.csv").touch()
    assert main(["train", "two/a.py", "--channel", "train=rows.csv"]) == failures.USAGE
    assert "rows.csv is a file\n  fix: Name the folder that holds it: ." in capsys.readouterr().err
    assert main(["train", "two/a.py", "--output", "rows.csv"]) == failures.USAGE
    assert "rows.csv is not a folder\n  fix: Choose another" in capsys.readouterr().err
    assert main(["serve", "--model", "rows.csv", "--port", "0"]) == failures.USAGE
    what = capsys.readouterr().err.splitlines()[-2]
    assert what.endswith("is not a whole tar archive (file could not be opened successfully)")


def test_a_name_that_is_nearly_right(folder, capsys):
    assert main(["train", "tow/a.py"]) == failures.USAGE
    assert "Did you mean" not in capsys.readouterr().err
    assert main(["train", "two/aa.py"]) == failures.USAGE
    assert "Did you mean two/a.py? Name a folder with train.py" in capsys.readouterr().err
    assert main(["serve", "tow", "--model", "x"]) == failures.USAGE
    assert "Did you mean two? Name a folder with inference.py" in capsys.readouterr().err
    (folder / "train.py").touch()
    assert main(["train"]) == failures.USAGE
    assert "Name a folder: `byoc train .` takes this one" in capsys.readouterr().err


def test_an_output_that_cannot_be_made(folder, capsys):
    """Room is not what is missing."""
    assert main(["train", "two/a.py", "--output", "/proc/x"]) == failures.MACHINE
    assert "'/proc/x'\n  fix: Choose another --output\n" in capsys.readouterr().err


@pytest.mark.slow
def test_a_job_leaves_its_log_and_its_metrics(folder, capsys):
    program = "import sys; print('loss=2.5; acc=0.1;'); print('loss=0.5;'); sys.exit(1)"
    (folder / "two/a.py").write_text(program)
    assert main(["train", "two/a.py", "--output", "byoc-jobs/x"]) == failures.FAILED
    assert "fix: Correct the program; its log: byoc-jobs/x/train.log\n" in capsys.readouterr().err
    log = (folder / "byoc-jobs/x/train.log").read_text().splitlines()
    assert log[0].startswith("byoc: a.py from ")
    assert log[1:3] == ["loss=2.5; acc=0.1;", "loss=0.5;"]
    assert main(["runs", "byoc-jobs", "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert run["metrics"] == {"loss": 0.5, "acc": 0.1}
    assert run["best"]["loss"] == 0.5
    # The next job there prints none, and a refused one leaves nothing.
    (folder / "byoc-jobs/x/model.tar.gz").touch()
    assert main(["train", "two/b.py", "--output", "byoc-jobs/x"]) == 0
    assert "  byoc-jobs/x/model.tar.gz is an earlier job's\n" in capsys.readouterr().err
    assert not (folder / "byoc-jobs/x/metrics.jsonl").exists()
    assert main(["train", "two/b.py", "--output", "byoc-jobs/y", "--channel", "a=none"]) == 2
    assert not (folder / "byoc-jobs/y").exists()


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        (None, ""),
        ("AlgorithmError: , exit code: 143", ""),
        ("AlgorithmError: x, exit code: 143", "AlgorithmError: x, exit code: 143"),
    ],
)
def test_a_reason_without_words_is_not_shown(reason, shown):
    ended = TrainingResult(
        status=Status.STOPPED,
        exit_code=143,
        failure_reason=reason,
        model=None,
        output=None,
        seconds=0.1,
    )
    assert train._reason(ended) == shown


@pytest.mark.slow
def test_without_unshare_the_kernel_is_not_blamed(folder, monkeypatch, capsys):
    """What the job needs is there: its program is run by this interpreter's own path."""
    monkeypatch.setenv("PATH", "/nonexistent")
    assert main(["train", "two/a.py", "--output", "out"]) == 0
    assert "the command unshare, of util-linux, is missing: /opt/ml" in capsys.readouterr().err


# ── how much is said ──


@pytest.mark.slow
@pytest.mark.parametrize("words", [["-q", "train", "two/a.py"], ["train", "two/a.py", "--quiet"]])
def test_quiet(words, folder, capsys):
    """Neither steps nor the log; results and errors stay."""
    assert main(words) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["-q", "train", "two"]) == failures.FAILED
    assert capsys.readouterr().err.startswith("error[JOB]: ")
    console.step("no longer quiet")
    assert "no longer quiet" in capsys.readouterr().err


def test_every_command_takes_both_before_and_after_its_name():
    for words in (["-v", "ps"], ["ps", "-v"], ["local", "up", "--verbose"], ["-v", "local", "env"]):
        assert ROOT.parse_args(words).verbose


def test_verbose_says_what_is_asked(folder, monkeypatch, capsys):
    """Without the values of variables, which may be secret."""
    monkeypatch.setenv("DOCKER", "/bin/false")
    assert main(["train", "two/a.py", "--engine", "docker", "-v"]) == failures.MACHINE
    assert "  asked: /bin/false ps --all" in capsys.readouterr().err
    console.set_verbosity(quiet=True, verbose=True)
    docker.note_command(["docker", "create", "--env", "KEY=secret", "image"])
    aws_calls.note(aws_calls.Call("s3", "PutObject"), "eu-west-1")
    console.set_verbosity()
    docker.note_command(["docker", "silent"])
    err = capsys.readouterr().err
    assert err == (
        "  asked: docker create --env 'KEY=…' image\n  asked: s3 PutObject in eu-west-1\n"
    )


# ── streams ──


def run(folder, redirections, words, **variables):
    command = f"exec {shlex.join([*BYOC, *words])} {redirections}"
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        check=False,
        cwd=folder,
        env={**os.environ, **variables},
        timeout=60,
    )


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(folder, closed):
    """A cron job or a daemon may have closed them; the job runs all the same."""
    (folder / "two/a.py").write_text(
        "import os; open(os.environ['SM_MODEL_DIR'] + '/m', 'w').write('x')"
    )
    done = run(folder, closed, ["train", "two/a.py", "--output", "out"])
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert (folder / "out/model.tar.gz").exists()


@pytest.mark.slow
def test_a_terminal_that_is_not_utf_8(folder):
    """What it can't show is escaped; no UnicodeEncodeError."""
    (folder / "two/a.py").write_text(r"print('loss \u2192 0')")
    done = run(
        folder, "", ["train", "two/a.py"], LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"
    )
    assert done.returncode == 0
    assert rb"algo-1 | loss \u2192 0" in done.stderr


@pytest.mark.slow
def test_a_reader_of_stderr_that_leaves_does_not_end_a_job(folder):
    """A model is worth more than the rest of a log."""
    (folder / "two/a.py").write_text(
        "import os\nfor _ in range(20000): print('x' * 50)\n"
        "open(os.environ['SM_MODEL_DIR'] + '/m', 'w').write('x')"
    )
    done = run(folder, "2>&1 | head -1", ["train", "two/a.py", "--output", "out"])
    assert len(done.stdout.splitlines()) == 1
    assert (folder / "out/model.tar.gz").exists()
