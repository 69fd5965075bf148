"""Where words go: results to stdout, everything else to stderr; colour only on a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence

_BOLD, _RED, _DIM, _PLAIN = "\033[1m", "\033[31m", "\033[2m", "\033[0m"
SCHEMA = 1
"""Of every JSON document that a command prints; it grows when a member changes its meaning."""


def is_interactive() -> bool:
    """Whether somebody watches stderr: progress may redraw itself."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _colour(code: str, text: str) -> str:
    """NO_COLOR wins over FORCE_COLOR (no-color.org, force-color.org)."""
    if os.environ.get("NO_COLOR"):
        return text
    wanted = is_interactive() or bool(os.environ.get("FORCE_COLOR"))
    return f"{code}{text}{_PLAIN}" if wanted else text


def _say(text: str) -> None:
    """In one write, or the lines of two threads would run into each other."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def result(text: str) -> None:
    """What the command was asked for; the only thing on stdout."""
    print(text, flush=True)


def document(members: Mapping[str, object]) -> None:
    """The result for programs: one JSON object, with the number of its schema."""
    result(json.dumps({"schema": SCHEMA, **members}, indent=2))


def line(members: Mapping[str, object]) -> None:
    """One JSON object of a stream of them, in one line."""
    result(json.dumps(members))


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def step(text: str) -> None:
    _say(_colour(_BOLD, f"* {text}"))


def detail(text: str) -> None:
    _say(f"  {text}")


def log_line(host: str, line: str) -> None:
    """One line of a container's log."""
    _say(f"{_colour(_DIM, f'{host} |')} {line}")


def error(what: str, cure: str, kind: str = "FAILED") -> None:
    """`kind` is the error's stable id, as docs/reference/commands.md lists them."""
    _say(f"{_colour(_RED, f'error[{kind}]:')} {what}")
    _say(f"  fix: {cure}")
