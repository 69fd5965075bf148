"""Where words go: results to stdout, everything else to stderr; colour only on a terminal."""

from __future__ import annotations

import os
import sys

_BOLD, _RED, _DIM, _PLAIN = "\033[1m", "\033[31m", "\033[2m", "\033[0m"


def _colour(code: str, text: str) -> str:
    wanted = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return f"{code}{text}{_PLAIN}" if wanted and not os.environ.get("NO_COLOR") else text


def _say(text: str) -> None:
    """In one write, or the lines of two threads would run into each other."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def result(text: str) -> None:
    """What the command was asked for; the only thing on stdout."""
    print(text, flush=True)


def step(text: str) -> None:
    _say(_colour(_BOLD, f"* {text}"))


def detail(text: str) -> None:
    _say(f"  {text}")


def log_line(host: str, line: str) -> None:
    """One line of a container's log."""
    _say(f"{_colour(_DIM, f'{host} |')} {line}")


def error(what: str, cure: str) -> None:
    _say(f"{_colour(_RED, 'error:')} {what}")
    _say(f"  fix: {cure}")
