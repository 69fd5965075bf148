"""`serve --check`: what would happen, without a server."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.unit.serving.harness import Server

pytestmark = pytest.mark.slow  # real processes


def check(tmp_path, model, *samples, **environ):
    """Exit code and log."""
    server = Server(tmp_path, model, **environ)
    server.reserved.close()
    command = [sys.executable, "-I", "-m", "sagemaker_byoc.serving", "serve", "--check", *samples]
    done = subprocess.run(
        command, env=server.environ, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stderr


def test_loads(tmp_path):
    """The model is loaded, the functions are listed, and that is all."""
    code, log = check(tmp_path, "numbers")
    assert (code, "model_fn from" in log, "loaded and warmed in" in log) == (0, True, True)


def test_sample(tmp_path):
    """A sample is answered as a request would be, its type taken from its name."""
    sample = tmp_path / "a.csv"
    sample.write_text("1,2\n")
    code, log = check(tmp_path, "numbers", str(sample))
    assert (code, "[[2,4]]" in log) == (0, True)


def test_captures_of_no_use(tmp_path):
    """Where requests would be captured, and the reply's type is none that a monitor reads."""
    sample = tmp_path / "a.csv"
    sample.write_text("1,2\n")
    accept = {"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "application/x-npy"}
    code, log = check(tmp_path, "numbers", str(sample), BYOC_CAPTURE="/captures", **accept)
    assert (code, "type application/x-npy are kept as BASE64" in log) == (0, True)


@pytest.mark.parametrize(
    ("model", "text", "code", "part"),
    [
        ("cannot_load", "1", 1, "from another century"),
        ("numbers", "a,b", 1, "header=present"),
        ("numbers", None, 2, "can't be read"),
    ],
)
def test_what_fails(tmp_path, model, text, code, part):
    """Not zero, and the cause."""
    sample = tmp_path / "a.csv"
    if text is not None:
        sample.write_text(text)
    found, log = check(tmp_path, model, str(sample))
    assert (found, part in log) == (code, True)
