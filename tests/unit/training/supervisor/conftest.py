"""A job's tree in a temporary folder, and the real supervisor run on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.job import Job

TRAINERS = Path(__file__).parents[3] / "zoo" / "trainers"
COMMAND = [sys.executable, "-I", "-m", "sagemaker_byoc.training"]
AS_PID_1 = ["unshare", "--pid", "--fork", "--mount-proc"]
SILENCE_SECONDS = 20


def wait_until(condition, what):
    """Return what `condition` returns as soon as that is true."""
    deadline = time.monotonic() + SILENCE_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {SILENCE_SECONDS} s for {what}"
        time.sleep(0.005)
    return value


@dataclass
class Result:
    code: int
    out: str
    err: str
    failure: str | None


@dataclass
class Running:
    """A supervisor that was started and not yet waited for; its output goes to files."""

    process: subprocess.Popen
    folder: Path
    tree: Tree

    def out(self):
        return (self.folder / "out").read_text()

    def wait_for_line(self, line):
        wait_until(lambda: f"{line}\n" in self.out(), f"line {line!r}")

    def result(self):
        code = self.process.wait(SILENCE_SECONDS)
        failure = self.tree.failure.read_text() if self.tree.failure.exists() else None
        return Result(code, self.out(), (self.folder / "err").read_text(), failure)


@dataclass
class Container:
    """What a container is to the supervisor: a tree, a program, an environment."""

    folder: Path
    tree: Tree
    environ: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen] = field(default_factory=list)
    command: Sequence[str] = tuple(COMMAND)

    def program(self, name, **hyperparameters):
        """Use a trainer of the zoo, with these hyperparameters."""
        self.text(TRAINERS.joinpath(name).read_text(), **hyperparameters)

    def text(self, source, **hyperparameters):
        self.tree.code.mkdir(parents=True, exist_ok=True)
        (self.tree.code / "train.py").write_text(source)
        self.config("hyperparameters", hyperparameters)

    def config(self, name, document):
        self.tree.config.mkdir(parents=True, exist_ok=True)
        (self.tree.config / f"{name}.json").write_text(json.dumps(document))

    def job(self):
        return Job.read(self.tree)

    def start(self, *arguments, prefix=(), **pipes):
        environ = {
            "PATH": os.environ["PATH"],
            "BYOC_PROGRAM_DIR": str(self.folder / "baked"),
            "SAGEMAKER_BASE_DIR": str(self.tree.root),
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.environ,
        }
        with open(self.folder / "out", "wb") as out, open(self.folder / "err", "wb") as err:
            streams = {"stdout": out, "stderr": err, **pipes}
            command = [*prefix, *self.command, *(arguments or ["train"])]
            process = subprocess.Popen(command, env=environ, **streams)
        self.started.append(process)
        return Running(process, self.folder, self.tree)

    def run(self, *arguments, prefix=()):
        return self.start(*arguments, prefix=prefix).result()


@pytest.fixture
def container(tmp_path):
    tree = Tree(tmp_path / "ml")
    tree.root.mkdir()
    made = Container(tmp_path, tree)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()


@pytest.fixture(scope="session")
def pid_1():
    """The words before a command that make it PID 1 of a namespace."""
    if not shutil.which("unshare"):
        pytest.skip("there is no unshare here")
    if subprocess.run([*AS_PID_1, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make a PID namespace")
    return AS_PID_1
