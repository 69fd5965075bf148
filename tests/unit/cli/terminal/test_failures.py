"""The words of failures: causes found in logs, hints, defects of ours."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from sagemaker_byoc.cli.main import main
from sagemaker_byoc.cli.terminal import failures


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        ([], ""),
        (["", "  "], ""),
        (
            ["byoc: error: slot 0: loading failed: KeyError: 'a'", "byoc: giving up"],
            "KeyError: 'a'",
        ),
        (["byoc: error: one", "byoc: error: two", "byoc: ping: failed"], "two"),
        (
            ["Traceback (most recent call last):", "  x", "a.b.MyError: why", "bye"],
            "a.b.MyError: why",
        ),
        (
            ["exec format error", "byoc: ping: loading"],
            "its log ends with: exec format error",
        ),
    ],
)
def test_the_cause_in_a_log(lines, cause):
    assert failures.cause_of(lines) == cause


def test_hints():
    assert failures.hint_for("train", None, "x. Use y, or set BYOC_A_B=1.") == (
        "If that is what you want, add --env BYOC_A_B=1"
    )
    choose = "2 to choose from (b c.py, d.py)"
    assert (
        failures.hint_for("train", Path("UPPER"), choose)
        == "Name the file: byoc train 'UPPER/b c.py'"
    )
    assert failures.hint_for("train", None, choose) == ""
    assert failures.hint_for("train", Path(), "something else") == ""
    loads = "/opt/ml/model holds a.bin, none of which is a model that loads without model_fn"
    assert failures.hint_for("serve", None, loads).startswith(
        "Define model_fn in an inference.py, and name"
    )
    assert failures.hint_for("serve", Path("x"), loads).startswith(
        "Define model_fn in x/inference.py, or"
    )
    assert failures.hint_for("train", None, "channel 'a.b' was not given: add it").startswith(
        "Add --channel a.b=DIR,"
    )
    assert failures.hint_for(
        "train", Path("x"), "and no .py file that could be the program; it"
    ).endswith("byoc train FOLDER/FILE")


@pytest.mark.parametrize(
    "command",
    [
        "pip install joblib",
        "'/my venv/bin/python' -m pip install joblib",
        "uv pip install --python /x/bin/python joblib",
        "pipx inject sagemaker-byoc joblib",
        "pip install torch --index-url https://host/whl/cpu",
    ],
)
def test_the_command_that_installs_is_whole(command):
    missing = f"joblib is not installed: {command}; a module of your own belongs beside"
    assert failures.hint_for("train", None, missing) == f"Run: {command}"
    lacking = f"needs the Python package x. Install what it needs: {command}"
    assert failures.hint_for("serve", None, lacking) == f"Run: {command}"


def test_a_defect_leaves_its_traceback_in_a_private_file(monkeypatch, capsys, tmp_path):
    """Or shows it with -v."""

    def broken(_):
        raise ZeroDivisionError("x")

    monkeypatch.setattr("sagemaker_byoc.cli.commands.init.run", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["init"]) == failures.FAILED
    what, fix = capsys.readouterr().err.splitlines()
    assert what == "error[INTERNAL]: byoc itself failed: ZeroDivisionError: x"
    file = Path(fix.removeprefix("  fix: Report the traceback in "))
    assert "in broken" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert main(["init", "-v"]) == failures.FAILED
    assert "in broken" in capsys.readouterr().err
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    assert main(["init"]) == failures.FAILED
    assert "again with -v" in capsys.readouterr().err
