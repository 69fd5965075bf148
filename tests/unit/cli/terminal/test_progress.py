"""Bytes, rate and time left of a transfer: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import os
import pty
import re
import sys

import pytest

from sagemaker_byoc.cli.terminal import console, progress
from sagemaker_byoc.cli.terminal.progress import Progress, size_of, time_of


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (2_500_000, "2.5 MB"),
        (5 * 10**12, "5000.0 GB"),
    ],
)
def test_sizes(size, text):
    assert size_of(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (65, "1:05"), (3661, "1:01:01")]
)
def test_times(seconds, text):
    assert time_of(seconds) == text


def test_the_line(monkeypatch):
    """Whatever is known: the total, the rate and the time that is left come when they do."""
    clock = iter([100.0, 100.0, 110.0, 120.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    sent = Progress("upload")
    sent.finish()  # no thread, which would ask the clock too
    assert sent.line() == "upload: 0 B"
    sent.advance(50_000_000)
    assert sent.line() == "upload: 50.0 MB"
    sent.expect(200_000_000)
    assert sent.line() == "upload: 50.0 MB of 200.0 MB, 5.0 MB/s, 0:30 left"
    sent.advance(200_000_000)  # the total was estimated too low
    assert sent.line() == "upload: 250.0 MB, 12.5 MB/s"


def test_a_quick_transfer_says_nothing(capsys):
    with Progress("upload") as sent:
        sent.expect(10)
        sent.advance(10)
    assert capsys.readouterr() == ("", "")


def slow(monkeypatch, *, watched, quiet=False):
    """A progress whose transfer has taken long, with the file's end of it waited for."""
    monkeypatch.setattr(progress, "_SILENT", 0.0)
    monkeypatch.setattr(progress, "_REDRAWN", 0.01)
    monkeypatch.setattr(console, "is_interactive", lambda: watched)
    console.set_verbosity(quiet=quiet)


def test_lines_where_nobody_watches(monkeypatch, capsys):
    """At once after two seconds, then every ten; no control codes."""
    slow(monkeypatch, watched=False)
    monkeypatch.setattr(progress, "_REPEATED", 0.01)
    said = []
    monkeypatch.setattr(console, "detail", said.append)
    with Progress("upload") as sent:
        sent.expect(10)
        sent.advance(5)
        while len(said) < 2 or not said[-1].startswith("upload: 5 B of 10 B, "):
            assert all(line.startswith("upload: ") for line in said)
    assert capsys.readouterr() == ("", "")


def test_one_transfer_after_the_other(monkeypatch, capsys):
    """Each counts from nothing, under its own title."""
    slow(monkeypatch, watched=False)
    said = []
    monkeypatch.setattr(console, "detail", said.append)
    with Progress() as sent:
        for title, size in (("pack", 5), ("copy", 7)):
            sent.start(title)
            sent.advance(size)
            while not said or not said[-1].startswith(f"{title}: {size} B"):
                assert all(line.startswith(("pack: 5 B", "copy: 7 B")) for line in said)
            sent.finish()
    assert len(said) == 2


def test_quiet(monkeypatch, capsys):
    slow(monkeypatch, watched=False, quiet=True)
    try:
        with Progress("upload") as sent:
            sent.advance(5)
            sent._thread.join(30)
            assert not sent._thread.is_alive()
        assert capsys.readouterr() == ("", "")
    finally:
        console.set_verbosity(quiet=False)


SCRIPT = """
import sys, time
from sagemaker_byoc.cli.terminal import console, progress
assert "rich" not in sys.modules
progress._SILENT = 0.0
drawn = False
with progress.Progress("upload") as sent:
    sent.expect(2_000_000)
    sent.advance(1_000_000)
    while "rich.live" not in sys.modules or type(sys.stderr).__name__ != "FileProxy":
        time.sleep(0.01)
    console.step("a line meanwhile")
    time.sleep(0.3)
console.step("the end")
"""


@pytest.mark.slow
@pytest.mark.parametrize("columns", ["100", "30"])
def test_a_bar_on_a_terminal(columns):
    """Redrawn, with the lines that are said meanwhile above it, and gone at the end."""
    pid, terminal = pty.fork()
    if pid == 0:
        environ = {**os.environ, "TERM": "xterm", "COLUMNS": columns, "NO_COLOR": "1"}
        os.execve(sys.executable, [sys.executable, "-c", SCRIPT], environ)
    said = b""
    while True:
        try:
            said += os.read(terminal, 4096)
        except OSError:  # the terminal's other end is closed
            break
    _, status = os.waitpid(pid, 0)
    assert status == 0, said
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode())
    assert "* a line meanwhile\r\n" in text
    assert text.endswith("* the end\r\n")
    if columns == "100":
        assert "1.0/2.0 MB" in text
