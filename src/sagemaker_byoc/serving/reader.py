"""Variables that configure a serving container: read by type, and those that have no effect here.

Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeVar

from sagemaker_byoc.contract import variables
from sagemaker_byoc.contract.errors import ContractError

T = TypeVar("T")


class Reader:
    """Reads variables by type; an empty one counts as absent, as the SDK sends them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ

    def text(self, name: str) -> str:
        return self.environ.get(name, "").strip()

    def flag(self, name: str) -> bool:
        text = self.text(name).lower()
        if text in {"", "0", "false", "1", "true"}:
            return text in {"1", "true"}
        raise ContractError(where=name, what=f"is {text!r}", hint="Give 1 or 0")

    def count(self, *names: str, default: int, least: int = 1, most: float = math.inf) -> int:
        return self._number(names, int, default, least, most)

    def seconds(self, *names: str, default: float, least: float = 0.001) -> float:
        return self._number(names, float, default, least)

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """Return one of `choices`, the first if the variable is not set."""
        text = self.text(name).lower() or choices[0]
        if text not in choices:
            raise ContractError(
                where=name, what=f"is {text!r}", hint=f"Give one of {', '.join(choices)}"
            )
        return text

    def _number(
        self,
        names: tuple[str, ...],
        kind: Callable[[str], T],
        default: T,
        least: float,
        most: float = math.inf,
    ) -> T:
        for name in names:
            text = self.text(name)
            if not text:
                continue
            with suppress(ValueError):
                if least <= float(text) <= most and float(text) != math.inf:
                    return kind(text)
            whole = "whole number" if kind is int else "number"
            bounds = f"of at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
            raise ContractError(
                where=name,
                what=f"is {text!r}",
                hint=f"Give a {whole} {bounds}, or leave it out",
            )
        return default


OTHERS = ("MMS_", "TS_", "SAGEMAKER_TS_", "SAGEMAKER_", "GUNICORN_")
"""Prefixes of variables that other servers of SageMaker's containers read."""
OURS = {
    "MAX_REQUEST_SIZE": f"{variables.MAX_PAYLOAD_IN_MB} sets the largest request",
    "MAX_RESPONSE_SIZE": "replies have no limit",
    "RESPONSE_TIMEOUT": f"{variables.TIMEOUT} sets the deadline, in seconds",
    "UNREGISTER_MODEL_TIMEOUT": "unloading waits for running requests, up to 20 seconds",
    "TIMEOUT": f"{variables.TIMEOUT} sets the deadline, in seconds",
    "MODEL_WORKERS": f"{variables.WORKERS} sets the number of workers",
    "WORKERS_PER_MODEL": f"{variables.WORKERS} sets the number of workers",
    "MIN_WORKERS": f"{variables.WORKERS} sets the number of workers",
    "MAX_WORKERS": f"{variables.WORKERS} sets the number of workers",
    "WORKERS": f"{variables.WORKERS} sets the number of workers",
    "JOB_QUEUE_SIZE": f"{variables.QUEUE} sets the length of the queue",
    "BATCH_SIZE": f"{variables.BATCH_SIZE} sets the size of batches",
    "MAX_BATCH_DELAY": "a batch never waits for more requests",
    "CMD_ARGS": "gunicorn's settings are fixed",
}
"""Text of the warning by the end of the variable's name; the longest end counts."""


def without_effect(environ: Mapping[str, str]) -> list[str]:
    """Return a line for each set variable of another server that sets a limit or a number."""
    lines = []
    for name in sorted(environ):
        ends = [end for end in OURS if name.endswith(f"_{end}")]
        if ends and name.startswith(OTHERS) and environ[name] and not variables.is_known(name):
            lines.append(f"{name} has no effect here: {OURS[max(ends, key=len)]}")
    return lines
