"""What a writer of captured traffic is given: one answered invocation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """`config` is the endpoint's DataCaptureConfig; sampling by it is the writer's."""

    config: Mapping[str, Any]
    endpoint: str
    variant: str
    request_id: str
    time: datetime
    inference_id: str | None
    custom_attributes: str | None
    request_type: str | None
    """Content-Type of the request; None where it had none."""
    request: bytes
    response_type: str | None
    response: bytes


Capture: TypeAlias = Callable[[Exchange], None]
"""Called on the event loop after the answer is on its way; must not block and must not raise."""
