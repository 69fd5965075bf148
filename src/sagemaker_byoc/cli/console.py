"""Where words go: results to stdout, everything else to stderr; colour only on a terminal."""

from __future__ import annotations

import os
import sys

_BOLD, _RED, _DIM, _PLAIN = "\033[1m", "\033[31m", "\033[2m", "\033[0m"


def _colour(code: str, text: str) -> str:
    wanted = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return f"{code}{text}{_PLAIN}" if wanted and not os.environ.get("NO_COLOR") else text


def result(text: str) -> None:
    """What the command was asked for; the only thing on stdout."""
    print(text, flush=True)


def step(text: str) -> None:
    print(_colour(_BOLD, f"* {text}"), file=sys.stderr, flush=True)


def detail(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def log_line(host: str, line: str) -> None:
    """One line of a container's log."""
    print(f"{_colour(_DIM, f'{host} |')} {line}", file=sys.stderr, flush=True)


def error(what: str, cure: str) -> None:
    print(f"{_colour(_RED, 'error:')} {what}", file=sys.stderr)
    print(f"  fix: {cure}", file=sys.stderr, flush=True)
