"""What a broker tells others about workers; each has at most one listener, set when it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.front.broker.tickets import Lane
from sagemaker_byoc.serving.link import Frame


class Hooks:
    """Until someone listens nobody does."""

    def __init__(self) -> None:
        self.on_batch: Callable[[float], None] = _nobody
        """The number of requests that went to a worker together."""
        self.on_ready: Callable[[], None] = _nobody
        self.on_failure: Callable[[str, int], None] = _nobody
        """A load failed: reason and status."""
        self.on_lost: Callable[[Lane], None] = _nobody
        self.on_captured: Callable[[Mapping[str, Any], Body], None] = _nobody
        """What redact_fn has left of an invocation."""
        self.on_talk: Callable[[Lane, Frame], None] = _nobody
        """Part of a conversation."""
        self.on_sessions: Callable[[int, list[tuple[str, float]]], None] = _nobody
        """What the worker of a slot holds when it comes: sessions and when they expire."""
        self.on_adapters: Callable[[int, Mapping[str, str]], None] = _nobody
        """And adapters, with their folders."""


def _nobody(*_: object) -> None:
    return
