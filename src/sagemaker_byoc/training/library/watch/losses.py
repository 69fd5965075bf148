"""Validation losses that a program logs anyway, for the rules that compare the two kinds.

Training losses are taken where backward begins: what is logged of them would be counted twice.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Mapping, Sequence

from sagemaker_byoc.training.library.watch.rules.base import EVAL

ATTACH = "sagemaker_byoc.training.library.watch.attach"
VALIDATION = re.compile(
    r"(?:^|[^a-z])(?:val|valid|validation|eval|test)(?:[^a-z]|$)", re.IGNORECASE
)
LOSS = re.compile(r"loss", re.IGNORECASE)


def show_losses(rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
    """Steps and their values, to the watch of this process; nearly free where there is none."""
    module = sys.modules.get(ATTACH)
    watch = module.current_watch() if module else None
    if watch is None:
        return
    for step, values in rows:
        for name, value in values.items():
            if is_validation_loss(name):
                watch.loss(value, mode=EVAL, step=step)


@functools.lru_cache(1024)
def is_validation_loss(name: str) -> bool:
    return LOSS.search(name) is not None and VALIDATION.search(name) is not None
