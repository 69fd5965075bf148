"""--shell: a shell where the program would run, on a real terminal, and nothing left of it."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
from tests.unit.cli.terminal.test_signals import folders_left, processes_of

BYOC = [sys.executable, "-m", "sagemaker_byoc.cli"]
SECONDS = 30
ENGINES = ["process", pytest.param("docker", marks=pytest.mark.docker)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "program").mkdir()
    (tmp_path / "program/train.py").write_text("print('trained', 6 * 7)")
    (tmp_path / "model").mkdir()
    yield tmp_path
    for terminal in TERMINALS:
        terminal.close()
        if not terminal.ended:  # its test has failed
            os.kill(terminal.pid, signal.SIGHUP)
            terminal.wait()
    TERMINALS.clear()


TERMINALS = []


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, folder, *words):
        self.said, self.ended = "", False
        self.pid, self.end = pty.fork()
        TERMINALS.append(self)
        if self.pid == 0:
            os.chdir(folder)
            os.execv(BYOC[0], [*BYOC, *words])

    def type(self, text):
        os.write(self.end, text.encode())

    def wait_for(self, pattern):
        """What is printed from here on, until it matches."""
        while not (found := re.search(pattern, self.said)):
            ready, _, _ = select.select([self.end], [], [], SECONDS)
            assert ready, f"{pattern} in {self.said}"
            try:
                self.said += os.read(self.end, 4096).decode(errors="replace")
            except OSError as error:
                raise AssertionError(self.said) from error
        self.said = self.said[found.end() :]

    def exit_code(self):
        with suppress(OSError):  # its other end is closed
            while True:
                ready, _, _ = select.select([self.end], [], [], SECONDS)
                assert ready, f"no end in {self.said}"
                self.said += os.read(self.end, 4096).decode(errors="replace")
        return self.wait()

    def close(self):
        if self.end >= 0:
            os.close(self.end)
            self.end = -1

    def wait(self):
        status = os.waitpid(self.pid, 0)[1]
        self.ended = True
        return os.waitstatus_to_exitcode(status)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_shell_of_a_job(folder, engine):
    """The job's tree and variables; Ctrl-C is the shell's own; `train` runs the program."""
    terminal = Terminal(
        folder, "train", "program", "--shell", "--engine", engine, "--env", "A=b", "--hp", "n=1"
    )
    terminal.type("echo at $PWD with $A $(cat /opt/ml/input/config/hyperparameters.json)\n")
    terminal.wait_for(r'at \S+/(program|code) with b \{\s*"n": ?"1"\s*\}')
    # Said by the program that is interrupted, and not by the terminal that echoes what is typed.
    terminal.type("sh -c 'echo ready-$((1 + 1)); exec sleep 600'\n")
    terminal.wait_for("ready-2")
    terminal.type("\x03")
    terminal.wait_for(r"\^C")  # what was typed before that is thrown away
    terminal.type("train\n")
    terminal.wait_for("trained 42")
    terminal.type("exit 7\n")
    assert terminal.exit_code() == 7
    assert not processes_of(terminal.pid)
    assert not (folder / "byoc-jobs").exists() or not [*(folder / "byoc-jobs").iterdir()]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_terminal_that_is_closed(folder, engine):
    words = ("serve", "--model", "model", "--port", "0", "--shell", "--engine", engine)
    terminal = Terminal(folder, *words)
    terminal.type("echo in $((40 + 2))\n")
    terminal.wait_for("in 42")
    terminal.close()
    assert terminal.wait() in {129, -1}
    assert not processes_of(terminal.pid)
    assert not folders_left(folder)
    if engine == "docker":
        label = f"sagemaker-byoc.owner={terminal.pid}/"
        found = subprocess.run(
            ["docker", "ps", "--all", "--format", "{{.Labels}}"], capture_output=True, check=True
        )
        assert label.encode() not in found.stdout


@pytest.mark.slow
def test_words_from_a_pipe(folder):
    done = subprocess.run(
        [*BYOC, "serve", "--model", "model", "--port", "0", "--shell"],
        input="test -d /opt/ml/model && echo fine; exit 3\n",
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=SECONDS,
    )
    assert (done.returncode, done.stdout) == (3, "fine\n")
    assert not folders_left(folder)
