"""Console sessions of the documentation: what they are, and how a shell runs them.

A fenced `console` block after `<!-- session: NAME -->` is a session. `$` starts a command, `>`
continues it; the lines below are its output, in which `…` stands for anything. A `python` block
after `<!-- file: PATH -->` is a file that the page's reader has saved.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from sagemaker_byoc.host.ports import free_port

ROOT = Path(__file__).parents[2]
SESSION = re.compile(r"<!-- session: ([\w-]+) -->\n```console\n(.*?)```", re.DOTALL)
FILE = re.compile(r"<!-- file: ([\w./-]+) -->\n```python\n(.*?)```", re.DOTALL)
ANYTHING = "…"
END = "\x1e"


class Step(NamedTuple):
    command: str
    output: str


def pages() -> list[Path]:
    """README.md and every page below docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def sessions(page: Path) -> dict[str, list[Step]]:
    return {name: steps(block) for name, block in SESSION.findall(page.read_text())}


def files(page: Path) -> dict[str, str]:
    return dict(FILE.findall(page.read_text()))


def steps(block: str) -> list[Step]:
    """Return the commands of a session, each with what it is said to print."""
    found: list[Step] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append(Step(line.removeprefix("$ "), ""))
        elif line.startswith("> ") and not found[-1].output:
            found[-1] = Step(f"{found[-1].command}\n{line.removeprefix('> ')}", "")
        else:
            found[-1] = Step(found[-1].command, f"{found[-1].output}{line}\n")
    return found


def pattern(output: str) -> str:
    """Return a regular expression for `output`, blind to trailing blanks."""
    lines = [line.rstrip() for line in output.rstrip().split("\n")]
    return r"[ \t]*\n".join(
        ".*?".join(re.escape(part) for part in line.split(ANYTHING)) for line in lines
    )


def client() -> str:
    return os.environ.get("DOCKER", "docker")


def environment(**variables: str) -> dict[str, str]:
    """Put this checkout's `byoc` and `python3` first, then the tests' client `docker`."""
    folders = [str(Path(client()).parent)] if "/" in client() else []
    path = os.pathsep.join([str(Path(sys.executable).parent), *folders, os.environ["PATH"]])
    # On a busy machine torch's threads wait for each other: a session took four times as long.
    threads = {"OMP_NUM_THREADS": "1"}
    return {**os.environ, **threads, "DOCKER_BUILDKIT": "1", "PATH": path, **variables}


class Shell:
    """One bash for all commands of a session, as one types them: `cd` and variables last."""

    def __init__(self, process: subprocess.Popen[str], here: Mapping[str, str]) -> None:
        self._process = process
        self._replaced = here
        """What stands in a page → what this run has instead: ports, the checkout's folder."""

    def play(self, session: list[Step]) -> None:
        for step in session:
            command, output = self._here(step.command), self._here(step.output)
            code, printed = self._run(command)
            assert code == 0, f"$ {command}\n{printed}"
            assert re.fullmatch(pattern(output), printed.rstrip(), re.DOTALL), (
                f"$ {command}\nsaid to print:\n{output}\nprinted:\n{printed}"
            )

    def _here(self, text: str) -> str:
        for there, here in self._replaced.items():
            text = text.replace(there, here)
        return text

    def _run(self, command: str) -> tuple[int, str]:
        """Return the exit code and what was printed. The shell's own input is not the command's."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{{ {command}\n}} </dev/null; printf '\\n\\036%s\\n' $?\n")
        self._process.stdin.flush()
        lines = []
        for line in self._process.stdout:
            if line.startswith(END):
                return int(line.removeprefix(END)), "".join(lines)
            lines.append(line)
        return self._process.wait(), "".join(lines) + "(the shell has ended, or time was over)"


def own_ports() -> dict[str, str]:
    """Replace the ports of a page, which may be taken, by free ones."""
    serve, region = free_port(), free_port()
    return {
        "byoc serve ": f"byoc serve --port {serve} ",
        "byoc local up ": f"byoc local up --port {region} ",
        "127.0.0.1:8080": f"127.0.0.1:{serve}",
        "127.0.0.1:8321": f"127.0.0.1:{region}",
    }


@contextmanager
def shell(
    folder: Path, here: Mapping[str, str] | None = None, seconds: float = 300, **variables: str
) -> Iterator[Shell]:
    """Start a shell in `folder`; it ends after `seconds`, whatever a command waits for."""
    with subprocess.Popen(
        ["bash"],
        cwd=folder,
        env=environment(**variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        bound = threading.Timer(seconds, end_session, [process])
        bound.start()
        try:
            yield Shell(process, here or {})
        finally:
            bound.cancel()
            end_session(process)


def end_session(process: subprocess.Popen[str]) -> None:
    """End the shell and what it has left in the background."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
