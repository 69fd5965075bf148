"""The exception that torch's `record` wrote into a rank's TORCHELASTIC_ERROR_FILE."""

from __future__ import annotations

import json
from pathlib import Path

from sagemaker_byoc.training.supervisor.failure.tracebacks import Traceback, last_traceback

LIMIT = 256 * 2**10
CHARACTERS = 4000


def recorded_error(path: Path | None) -> Traceback | None:
    """None where there is no file, or none that torch would write."""
    try:
        with open(path or "", "rb") as file:
            message = json.loads(file.read(LIMIT))["message"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if isinstance(message, str):  # as C++ writes it
        return _plain(message)
    if not isinstance(message, dict):
        return None
    extra = message.get("extraInfo")
    stack = extra.get("py_callstack") if isinstance(extra, dict) else None
    found = last_traceback(stack) if isinstance(stack, str) else None
    text = message.get("message")
    return found or (_plain(text) if isinstance(text, str) else None)


def _plain(text: str) -> Traceback | None:
    words = " ".join(text[:CHARACTERS].split())
    return Traceback(words, frames=(), root=None, is_at_end=True) if words else None
