"""Where words go: results to stdout, everything else to stderr; colour only on a terminal.

What is printed here may come from a container, a client or a file, so every text passes `clean`:
no byte of it steers the terminal.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TextIO

_BOLD, _RED, _DIM, _PLAIN = "\033[1m", "\033[31m", "\033[2m", "\033[0m"
LONGEST_LINE = 16_384
"""Characters that are shown of one line of a log."""
_SEQUENCE = re.compile(
    r"(?P<colour>\x1b\[[0-9;:]*m)"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: moves the cursor, erases
    # OSC, DCS, …: they end where another starts, so that no text is searched once for each start.
    r"|(?:\x1b[]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90\x98\x9c-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-Z\\`-~]"
)
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""All but tab and newline; also what reorders a line (bidi controls), and lone surrogates."""
_quiet = False
SCHEMA = 1
"""Version of the JSON documents that commands print; it grows when a member changes its meaning."""


def is_interactive() -> bool:
    """Return whether stderr is a terminal, on which progress may be redrawn."""
    return is_terminal(sys.stderr)


def is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def has_colour(stream: TextIO) -> bool:
    """NO_COLOR wins over FORCE_COLOR (no-color.org, force-color.org)."""
    if os.environ.get("NO_COLOR"):
        return False
    return is_terminal(stream) or bool(os.environ.get("FORCE_COLOR"))


def clean(text: str, *, colour: bool = False) -> str:
    """Return `text` without the sequences that steer a terminal; with `colour`, SGR stays.

    A control character that begins no such sequence is shown as its escape, like \\x07.
    """
    if text.isprintable():
        return text
    parts: list[str] = []
    end = 0
    for found in _SEQUENCE.finditer(text):
        parts.append(_CONTROL.sub(_escaped, text[end : found.start()]))
        if colour and found["colour"]:
            parts.append(found["colour"])
        end = found.end()
    parts.append(_CONTROL.sub(_escaped, text[end:]))
    kept = "".join(parts)
    return f"{kept}{_PLAIN}" if colour and "\x1b" in kept else kept


def clean_line(line: str, *, colour: bool = False) -> str:
    """Return one line of a log, at most LONGEST_LINE characters of it.

    A progress bar, which returns to the line's start with each `\\r`, is shown in its last state.
    """
    line = line.rstrip("\r\n")
    shown = line[line.rfind("\r") + 1 :]
    kept = clean(shown[:LONGEST_LINE], colour=colour)
    more = len(shown) - LONGEST_LINE
    return f"{kept} … ({more} more characters)" if more > 0 else kept


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def _colour(code: str, text: str) -> str:
    return f"{code}{text}{_PLAIN}" if has_colour(sys.stderr) else text


def _say(text: str) -> None:
    """Write a line to stderr at once, so that the lines of two threads do not mix.

    A terminal that was closed (EIO) and a pipe without a reader are not failures.
    """
    with suppress(OSError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def result(text: str) -> None:
    """Print the result of the command, the only thing on stdout."""
    _print(clean(text))


def _print(text: str) -> None:
    """Raise BrokenPipeError if nobody can read it: also for a terminal that was closed."""
    try:
        print(text, flush=True)
    except OSError as error:
        if error.errno == errno.EIO:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from error
        raise


def result_line(stream: str, line: str) -> None:
    """Print one line of a container's log as a result."""
    shown = clean_line(line, colour=has_colour(sys.stdout))
    _print(f"{clean(stream)} | {shown}")


def document(members: Mapping[str, object]) -> None:
    """Print the result for programs: one JSON object, with the number of its schema."""
    result(json.dumps({"schema": SCHEMA, **members}, indent=2))


def line(members: Mapping[str, object]) -> None:
    """Print one JSON object of a stream, on one line."""
    result(json.dumps(members))


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as text, with columns as wide as their widest cell."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


class _Requests(logging.Handler):
    """Print what is asked of Docker and AWS, for -v."""

    def emit(self, record: logging.LogRecord) -> None:
        detail(self.format(record))


_requests = _Requests()
_HOST = logging.getLogger("sagemaker_byoc.host")
"""Logs, at DEBUG, what is asked of Docker and of AWS."""


def set_verbosity(*, quiet: bool = False, verbose: bool = False) -> None:
    """`quiet` leaves out all but results and errors; `verbose` wins over it."""
    global _quiet  # noqa: PLW0603 - of this process, as its streams are
    _quiet = quiet and not verbose
    if verbose:
        _HOST.setLevel(logging.DEBUG)
        _HOST.addHandler(_requests)
    else:
        _HOST.removeHandler(_requests)
        _HOST.setLevel(logging.NOTSET)


def is_quiet() -> bool:
    return _quiet


def is_verbose() -> bool:
    return _requests in _HOST.handlers


def step(text: str) -> None:
    if _quiet:
        return
    _say(_colour(_BOLD, f"* {clean(text)}"))


def detail(text: str) -> None:
    if _quiet:
        return
    _say(f"  {clean(text)}")


def log_line(host: str, line: str) -> None:
    """Print one line of a container's log."""
    if _quiet:
        return
    shown = clean_line(line, colour=has_colour(sys.stderr))
    _say(f"{_colour(_DIM, f'{clean(host)} |')} {shown}")


def builder_line(line: str) -> None:
    """Print one line of an image's builder, with -q too: it explains a failure."""
    _say(clean_line(line, colour=has_colour(sys.stderr)))


def error(what: str, hint: str, kind: str = "FAILED") -> None:
    """`kind` is the error's stable id, as docs/reference/commands.md lists them."""
    _say(f"{_colour(_RED, f'error[{kind}]:')} {clean(what)}")
    _say(f"  fix: {clean(hint)}")
