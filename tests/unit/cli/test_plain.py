"""The command in a plain environment: what is missing is named with what installs it.

The environment has this package and nothing else, as `pip install` of a checkout without extras.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile

import pytest

from sagemaker_byoc.images.build import project

INSTALL = r"\S+/python3? -m pip install"


@pytest.fixture(scope="module")
def byoc(tmp_path_factory):
    """Run `byoc` in a folder of its own; return the exit code, stdout and stderr."""
    home = tmp_path_factory.mktemp("plain")
    prefix = home / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True, timeout=60)
    (site,) = prefix.glob("lib/python3*/site-packages")
    with zipfile.ZipFile(project.write_wheel(home)) as archive:
        archive.extractall(site)
    (site / "pip").mkdir()  # what an installer would be found by
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "DOCKER_HOST": "unix:///nonexistent"}

    def run(*arguments):
        command = [prefix / "bin" / "python", "-P", "-m", "sagemaker_byoc.cli", *arguments]
        done = subprocess.run(
            command, cwd=home, env=environ, capture_output=True, text=True, check=False, timeout=120
        )
        assert "\nTraceback" not in f"\n{done.stderr}"  # the program's own has a prefix
        return done.returncode, done.stdout, done.stderr

    program = home / "program"
    program.mkdir()
    (program / "train.py").write_text("import sklearn.svm\n")
    (program / "inference.py").write_text("def model_fn(model_dir):\n    return None\n")
    (home / "model").mkdir()
    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["train", "program"], 1, "import error: sklearn is not installed: {} scikit-learn;"),
        (["serve", "program", "--model", "model", "--port", "0"], 3, "Run: {} '{}[serve]'"),
        (["train", "program"], 1, "fix: Run: {} scikit-learn\\n"),
        (["local", "up"], 3, "fix: Install what the region needs: {} '{}[local]'"),
        (["push", "x1", "--region", "eu-west-1"], 3, "Install it: {} '{}[cloud]'"),
        (["monitor", "run", "a", "--baseline", "b", "--output", "c"], 3, "{} '{}[monitor]'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_is_missing(byoc, command, code, words):
    """Never an image where there is none, and never an internal error."""
    found, _, err = byoc(*command)
    assert found == code, err
    assert "error[INTERNAL]" not in err
    assert "image" not in err
    assert re.search(words.replace("[", r"\[").format(INSTALL, "sagemaker-byoc"), err), err


@pytest.mark.slow
def test_doctor(byoc):
    """A warning for each extra, and exit code 0: nothing that was asked for is missing."""
    code, out, err = byoc("doctor")
    assert code == 0, out
    for extra in ("serve", "local", "monitor", "cloud", "train"):
        assert re.search(rf"fix: .*{INSTALL} 'sagemaker-byoc\[{extra}\]'", out)
    assert "* 0 errors, " in err


@pytest.mark.slow
def test_init(byoc):
    """The made project says what to install first."""
    code, out, _ = byoc("init", "made")
    assert code == 0
    serve, torch, *_ = out.splitlines()
    assert serve.startswith("cd made && ")
    assert serve.endswith("'sagemaker-byoc[serve]'")
    assert re.search(f"{INSTALL} torch", torch)
