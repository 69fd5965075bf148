"""The sessions that the README shows are run, and print what it shows.

A fenced `console` block after `<!-- session: NAME -->` is a session. `$` starts a command, the
lines below are its output, in which `…` stands for anything.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"<!-- session: (\w+) -->\n```console\n(.*?)```", re.DOTALL)
ANYTHING = "…"
COMMAND_SECONDS = 900


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
    """In which `docker` is the client that the tests use."""
    path = os.environ["PATH"]
    folder = str(Path(client()).parent) if "/" in client() else ""
    return {**os.environ, "DOCKER_BUILDKIT": "1", "PATH": f"{folder}:{path}" if folder else path}


def run_session(name: str) -> None:
    for step in SESSIONS[name]:
        result = subprocess.run(
            ["bash", "-c", step.command],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )
        assert result.returncode == 0, f"$ {step.command}\n{result.stdout}"
        assert re.fullmatch(pattern(step.output), result.stdout.rstrip(), re.DOTALL), (
            f"$ {step.command}\nsaid to print:\n{step.output}\nprinted:\n{result.stdout}"
        )


def test_every_session_has_commands():
    """The parser finds what the README holds."""
    assert set(SESSIONS) == {"demo", "train", "serve"}
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
