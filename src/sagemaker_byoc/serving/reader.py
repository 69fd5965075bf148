"""Typed reading of the variables that configure a serving container. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeVar

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
