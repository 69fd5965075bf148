"""The sessions that the README shows are run, and print what it shows.

A fenced `console` block after `<!-- session: NAME -->` is a session. `$` starts a command, the
lines below are its output, in which `…` stands for anything.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"<!-- session: (\w+) -->\n```console\n(.*?)```", re.DOTALL)
ANYTHING = "…"
SESSION_SECONDS = 1800
END = "\x1e"


class Step(NamedTuple):
    command: str
    output: str


def steps(block: str) -> list[Step]:
    """The commands of a session, each with what it is said to print."""
    found: list[Step] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append(Step(line.removeprefix("$ "), ""))
        elif found and found[-1].command.endswith("\\") and not found[-1].output:
            found[-1] = Step(f"{found[-1].command}\n{line.removeprefix('> ')}", "")
        else:
            found[-1] = Step(found[-1].command, f"{found[-1].output}{line}\n")
    return found


def pattern(output: str) -> str:
    """A regular expression for `output`, blind to trailing blanks."""
    lines = [line.rstrip() for line in output.rstrip().split("\n")]
    return r"[ \t]*\n".join(
        ".*?".join(re.escape(part) for part in line.split(ANYTHING)) for line in lines
    )


SESSIONS = {name: steps(block) for name, block in BLOCK.findall(README)}


def client() -> str:
    return os.environ.get("DOCKER", "docker")


def environment() -> dict[str, str]:
    """In which `docker` is the client that the tests use, and `byoc` this checkout's."""
    folders = [str(Path(client()).parent)] if "/" in client() else []
    path = os.pathsep.join([*folders, str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "DOCKER_BUILDKIT": "1", "PATH": path}


def run_session(name: str, *, after_first: Callable[[], None] | None = None) -> None:
    """All in one shell, as one types them: `cd` and variables last."""
    with shell() as process:
        for number, step in enumerate(SESSIONS[name]):
            code, printed = run(process, step.command)
            assert code == 0, f"$ {step.command}\n{printed}"
            assert re.fullmatch(pattern(step.output), printed.rstrip(), re.DOTALL), (
                f"$ {step.command}\nsaid to print:\n{step.output}\nprinted:\n{printed}"
            )
            if number == 0 and after_first is not None:
                after_first()


@contextmanager
def shell() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        ["bash"],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        bound = threading.Timer(SESSION_SECONDS, process.kill)
        bound.start()
        try:
            yield process
        finally:
            bound.cancel()
            process.kill()


def run(process: subprocess.Popen[str], command: str) -> tuple[int, str]:
    """The exit code and what was printed. The shell's own input is not the command's."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{{ {command}\n}} </dev/null; printf '\\n\\036%s\\n' $?\n")
    process.stdin.flush()
    lines = []
    for line in process.stdout:
        if line.startswith(END):
            return int(line.removeprefix(END)), "".join(lines)
        lines.append(line)
    return process.wait(), "".join(lines) + "(the shell has ended, or time was over)"


def test_every_session_has_commands():
    """The parser finds what the README holds."""
    assert set(SESSIONS) == {"demo", "train", "serve", "walk"}
    assert all(SESSIONS.values())


@pytest.mark.slow
def test_demo():
    """The first screen's session."""
    run_session("demo")


@pytest.mark.docker
@pytest.mark.slow
def test_docker_walks():
    """The two images by hand, as typed; the second serves what the first has trained."""
    folder = ROOT / "opt-ml"
    assert not folder.exists(), "the walk makes this folder; remove it first"
    try:
        run_session("train")
        run_session("serve")
    finally:
        subprocess.run([client(), "rm", "-f", "my-endpoint"], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.docker
@pytest.mark.slow
def test_walk_from_nothing_to_an_endpoint(tmp_path, monkeypatch):
    """A project, its images, the checks, the registry, a job, an endpoint: on a real engine."""
    folder = ROOT / "curves"
    assert not folder.exists(), "the walk makes this folder; remove it first"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def bring_wheels():
        """A wheel of torch that lies nearer than PyTorch's index, as for our own images."""
        for wheel in (ROOT / "wheels").glob("*.whl"):
            shutil.copy(wheel, folder / "wheels")

    try:
        run_session("walk", after_first=bring_wheels)
    finally:
        byoc = [sys.executable, "-m", "sagemaker_byoc.cli", "local", "down"]
        subprocess.run(byoc, capture_output=True, check=False, timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def test_every_folder_of_the_map_exists():
    """And every room is on the map."""
    block = re.search(r"## The map\n+```\n(.*?)```", README, re.DOTALL)[1]
    named = {match[1] for match in re.finditer(r"^ *([\w./-]+/?) {2,}", block, re.MULTILINE)}
    for path in named:
        assert (ROOT / path).exists() or (ROOT / "src/sagemaker_byoc" / path).exists(), path
    rooms = {
        f"{entry.name}/" for entry in (ROOT / "src/sagemaker_byoc").iterdir() if entry.is_dir()
    }
    assert rooms - {"__pycache__/"} <= named
