"""Validation losses that a program logs anyway, for the rules that compare the two kinds.

Training losses are taken where backward begins: what is logged of them would be counted twice.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping

from sagemaker_byoc.training.library.watch.rules.base import EVAL

ATTACH = "sagemaker_byoc.training.library.watch.attach"
VALIDATION = re.compile(
    r"(?:^|[^a-z])(?:val|valid|validation|eval|test)(?:[^a-z]|$)", re.IGNORECASE
)
LOSS = re.compile(r"loss", re.IGNORECASE)


def show_losses(step: int, values: Mapping[str, float]) -> None:
    """To the watch of this process; nearly free where there is none."""
    module = sys.modules.get(ATTACH)
    watch = module.current_watch() if module else None
    if watch is None:
        return
    for name, value in values.items():
        if LOSS.search(name) and VALIDATION.search(name):
            watch.loss(value, mode=EVAL, step=step)
