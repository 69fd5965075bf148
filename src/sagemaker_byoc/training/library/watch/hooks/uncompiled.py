"""Keeps torch.compile out of the watch: a compiled step calls hooks, and would compile them too."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def uncompiled(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, left alone with all that it calls; a µs a call."""
    made: Callable[P, R] | None = None

    def call(*arguments: P.args, **keywords: P.kwargs) -> R:
        nonlocal made
        if made is None:  # at the first call, since this imports Dynamo
            made = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
        return made(*arguments, **keywords)

    return call
