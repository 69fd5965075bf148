"""What is asked of Docker and of AWS, for `byoc -v`: one line per request."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence

LOGGER = logging.getLogger("sagemaker_byoc.asked")
_VALUES = frozenset({"--env", "-e", "--build-arg"})
"""Options whose values may be secrets."""


def note_command(words: Sequence[str]) -> None:
    if LOGGER.isEnabledFor(logging.DEBUG):
        shown = [
            f"{word.partition('=')[0]}=…" if before in _VALUES else word
            for before, word in zip(("", *words), words, strict=False)
        ]
        LOGGER.debug("asked: %s", shlex.join(shown))


def note_call(service: str, operation: str, region: str) -> None:
    LOGGER.debug("asked: %s %s in %s", service, operation, region)
