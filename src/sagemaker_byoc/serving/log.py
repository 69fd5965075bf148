"""Lines for the container's log: one event, one line, one write."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

PREFIX = "byoc: "
STDOUT, STDERR = 1, 2


def say(message: str) -> None:
    """One line of ours on standard error, with our prefix on every line of `message`."""
    lines = message.rstrip("\n").splitlines()
    _write(STDERR, "".join(f"{PREFIX}{line}\n" for line in lines))


def record(event: Mapping[str, object]) -> None:
    """One JSON object as one line on standard output."""
    _write(STDOUT, json.dumps(event, separators=(",", ":")) + "\n")


def _write(descriptor: int, text: str) -> None:
    """Past Python's buffers, so that lines of several threads and processes stay whole."""
    data = text.encode(errors="backslashreplace")
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except OSError:
            return  # nobody reads the log: not a reason to fail a request
