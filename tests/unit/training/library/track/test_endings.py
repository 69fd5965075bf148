"""How a run ends, what its parameters may be, and what a listener may cost: never the training."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.training.runs import RunRecord
from sagemaker_byoc.training.library.metric_files import EventFile
from sagemaker_byoc.training.library.run_facts import plain_parameters
from sagemaker_byoc.training.library.track import Track

ENDINGS = {
    "plain": ("with Track(): pass", "Completed"),
    "exit 0 within": ("with Track(): sys.exit(0)", "Completed"),
    "exit without a code": ("with Track(): sys.exit()", "Completed"),
    "exit 3 within": ("with Track(): sys.exit(3)", "Failed"),
    "exit with a text": ("with Track(): sys.exit('no data')", "Failed"),
    "raised exit": ("with Track(): raise SystemExit(3)", "Failed"),
    "exit 3 after": ("with Track(): pass\nsys.exit(3)", "Failed"),
    "exit 0 after": ("with Track(): pass\nsys.exit(0)", "Completed"),
    "exit 3 without with": ("track = Track()\nsys.exit(3)", "Failed"),
    "exit 0 without with": ("track = Track()\nsys.exit(0)", "Completed"),
    "builtin exit after": ("with Track(): pass\nexit(3)", "Failed"),
    "builtin quit after": ("with Track(): pass\nquit('no data')", "Failed"),
    "error after": ("with Track(): pass\n1 / 0", "Failed"),
    "error without with": ("track = Track()\n1 / 0", "Failed"),
    "interrupted": ("with Track(): raise KeyboardInterrupt", "Stopped"),
    "interrupted without with": ("track = Track()\nraise KeyboardInterrupt", "Stopped"),
    "an exit that was caught": (
        (
            "with Track(stream=io.StringIO()) as track:\n"
            "  try: sys.exit(3)\n"
            "  except SystemExit: track.log(1, {'loss': 1.0})"
        ),
        "Completed",
    ),
    "an error in a thread": (
        "with Track():\n  t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()",
        "Completed",
    ),
    "an exit of a thread": (
        "with Track():\n  t = threading.Thread(target=sys.exit, args=(3,)); t.start(); t.join()",
        "Completed",
    ),
    "a fork that ends": (
        "with Track():\n  pid = os.fork()\n  if pid == 0: sys.exit(3)\n  os.waitpid(pid, 0)",
        "Completed",
    ),
    "killed": ("track = Track()\nos.kill(os.getpid(), 9)", "InProgress"),
    "left at once": ("track = Track()\nos._exit(0)", "InProgress"),
}
DRIVER = """
import io, json, os, sys, threading
from sagemaker_byoc.training import Track
base = os.environ["SAGEMAKER_BASE_DIR"]
for number, program in enumerate(json.loads(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        os.environ["SAGEMAKER_BASE_DIR"] = f"{base}/{number}"
        break
    os.waitpid(pid, 0)
else:
    program = ""
exec(program)
"""


@pytest.fixture(scope="module")
def endings(tmp_path_factory):
    """The status of each, from one start of Python."""
    base = tmp_path_factory.mktemp("endings")
    programs = [program for program, _ in ENDINGS.values()]
    subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(programs)],
        env={**os.environ, "SAGEMAKER_BASE_DIR": str(base)},
        cwd=base,  # in a checkout each program would ask git for its state
        check=True,
        capture_output=True,
    )
    records = (
        RunRecord.read(base / str(number) / "output/data/run.json")
        for number in range(len(programs))
    )
    return dict(zip(ENDINGS, records, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDINGS)
def test_status(endings, name):
    """The program's own end, by whatever way; InProgress if nothing could be written any more."""
    assert endings[name].status == ENDINGS[name][1]


def test_slashes(folder):
    """The usual names of metrics, in the log, the definitions and the file."""
    out = io.StringIO()
    with Track(every=10, stream=out) as track:
        for step in range(10):
            track.log(step, {"train/loss": 1.0, "val/acc_5": 0.5})
    assert "train/loss=1; val/acc_5=0.5;" in out.getvalue()
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 10
    definitions = json.loads((folder / "metric_definitions.json").read_text())
    assert "train/loss" in {one["Name"] for one in definitions}


@pytest.mark.parametrize("name", ["train loss", "loss=", "", "1st", "Verlust%", 7, None])
def test_names_are_checked_at_once(folder, name):
    """And cost nothing that was logged before."""
    with Track(every=10, stream=io.StringIO()) as track:
        track.log(1, {"loss": 1.0})
        with pytest.raises(ContractError, match="is not a legal metric name"):
            track.log(2, {"loss": 2.0, name: 1.0})
        track.log(3, {"loss": 3.0})
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["loss"]) for row in rows] == [(1, 1.0), (3, 3.0)]
    assert RunRecord.read(folder / "run.json").status == "Completed"


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        (3.0, 3),
        (np.int64(3), 3),
        (np.float32(3), 3),
        (torch.tensor(3), 3),
        (-1, -1),
        (True, 1),
        (1 << 62, 1 << 62),
    ],
)
def test_steps(folder, step, kept):
    """Whole numbers of any type, twice too."""
    with Track(every=2, stream=io.StringIO()) as track:
        for _ in range(2):
            track.log(step, {"loss": float("nan")})
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [kept, kept]


@pytest.mark.parametrize("step", [0.5, float("nan"), float("inf"), None, "x", torch.ones(2)])
def test_steps_that_are_none(folder, step):
    """Refused at once, by name; the run ends as it should."""
    with Track(every=1, stream=io.StringIO()) as track:
        with pytest.raises(ContractError, match="step of log"):
            track.log(step, {"loss": 1.0})
        track.log(1, {"loss": 1.0})
    run = RunRecord.read(folder / "run.json")
    assert (run.status, run.metrics["loss"]) == ("Completed", 1.0)


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Settings:
    rate: float = 0.1
    api_key: str = "very-secret"
    where: Path = Path("/data")


class Rude:
    def __repr__(self):
        raise RuntimeError("no")


def test_parameters(folder):
    """What programs have in them, as JSON; secrets are hidden at any depth."""
    given = {
        "path": Path("/data"),
        "count": np.int64(3),
        "rate": np.float32(0.5),
        "flag": np.bool_(True),
        "colour": Colour.RED,
        "settings": Settings(),
        "type": torch.float32,
        "device": torch.device("cpu"),
        "none": None,
        "nan": float("nan"),
        "long": "x" * 10_000,
        "layers": (1, 2),
        "tensor": torch.tensor([1, 2]),
        "big": np.zeros((100, 100)),
        "activation": torch.nn.ReLU,
        Colour.RED: 1,
        "rude": Rude(),
    }
    given["itself"] = given
    with Track(every=1, stream=io.StringIO(), parameters=given) as track:
        track.log(1, {"loss": 1.0})
    found = dict(RunRecord.read(folder / "run.json").parameters)
    assert len(found.pop("long")) == 6000
    assert found.pop("itself")["itself"]["count"] == 3
    assert found == {
        "path": "/data",
        "count": 3,
        "rate": 0.5,
        "flag": True,
        "colour": "red",
        "settings": {"rate": 0.1, "api_key": "***", "where": "/data"},
        "type": "torch.float32",
        "device": "cpu",
        "none": None,
        "nan": "nan",
        "layers": [1, 2],
        "tensor": [1, 2],
        "big": "ndarray of shape (100, 100)",
        "activation": "torch.nn.modules.activation.ReLU",
        "red": 1,
        "rude": "<Rude>",
    }


@pytest.mark.parametrize(
    "given", [Settings(), argparse.Namespace(rate=0.1, api_key="x", where="/data")]
)
def test_parameters_that_are_no_mapping(given):
    """A dataclass, or what argparse returns."""
    assert plain_parameters(given) == {"rate": 0.1, "api_key": "***", "where": "/data"}
    assert plain_parameters(3) == {"parameters": 3}
    assert plain_parameters({"seed": 10**400, "huge": 10**9000}) == {
        "seed": str(10**400),
        "huge": "<int>",
    }


class Broken(io.StringIO):
    def write(self, _):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("error", [OSError(28, "full"), ValueError("broken"), KeyError("x")])
def test_a_listener_that_breaks(folder, monkeypatch, capsys, error):
    """TensorBoard's writer, at each step and at the end; the log on a full disk as well."""

    def fails(*_):
        raise error

    monkeypatch.setattr(EventFile, "write", fails)
    monkeypatch.setattr(EventFile, "close", fails)
    with Track(every=1, stream=Broken()) as track:
        for step in range(3):
            track.log(step, {"loss": 1.0})
    said = capsys.readouterr().err
    assert said.count("EventFile lacks steps") == 1
    assert said.count("the log lacks lines") == 1
    assert "Traceback" not in said
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3
    assert RunRecord.read(folder / "run.json").status == "Completed"


def test_an_unwritable_folder(folder, tmp_path, monkeypatch, capsys):
    """TensorBoard's folder is a file, and the job's description of it is no JSON."""
    (tmp_path / "input/config").mkdir(parents=True)
    (tmp_path / "input/config/tensorboardOutputConfig.json").write_text("{")
    with Track(every=1, stream=io.StringIO()) as track:
        track.log(1, {"loss": 1.0})
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BYOC_TENSORBOARD_DIR", str(tmp_path / "file" / "events"))
    with Track(every=1, stream=io.StringIO()) as track:
        track.log(1, {"loss": 1.0})
    assert capsys.readouterr().err.count("EventFile lacks steps") == 1


def test_the_record_is_finished_whatever_flush_raises(folder, monkeypatch, capsys):
    """Also the status on the listeners."""
    track = Track(every=10, stream=io.StringIO())
    track.log(1, {"loss": 1.0})
    monkeypatch.setattr(track, "on_rows", lambda _: 1 / 0)
    track.close()
    assert "the last steps are lost: ZeroDivisionError" in capsys.readouterr().err
    assert RunRecord.read(folder / "run.json").status == "Completed"
