"""Who asks, and how: set by the server for the time of one request."""

from __future__ import annotations

import re
from contextvars import ContextVar

from sagemaker_byoc.region.core.credentials import Principal

CLIENT: ContextVar[str] = ContextVar("CLIENT", default="")
"""An id of the client's connection; empty where a request came another way than over the wire."""

CALLER: ContextVar[Principal | None] = ContextVar("CALLER", default=None)
"""Who signed the request; None if the region takes any signature."""

WAITS: ContextVar[bool] = ContextVar("WAITS", default=False)
"""Whether a waiter of botocore asks: it takes no notice of anything before the end, and sleeps
30 to 120 s between two looks. So it is answered when it has something to see."""

SDK: ContextVar[bool] = ContextVar("SDK", default=False)
"""Whether the client of a SageMaker SDK (2 or 3) asks."""

FOLLOWS: ContextVar[bool] = ContextVar("FOLLOWS", default=False)
"""Whether the client shows each change when it happens, as `byoc launch --wait` does."""

FOLLOWER = "lib/sagemaker-byoc"
"""The word in the user agent of a client that follows."""

WAITER_SECONDS = 50.0
"""A waiter's request may be held; botocore gives an answer 60."""

_WAITER = re.compile(r"(?:^|\s)m/(?:[^\s,]+,)*B(?:,|\s|$)")


def is_waiter(user_agent: str) -> bool:
    """Botocore names the features that are in use: `m/Z,b,B`, B being WAITER (useragent.py)."""
    return _WAITER.search(user_agent) is not None


def is_sdk(user_agent: str) -> bool:
    """Both SDKs append `lib/AWS-SageMaker-Python-SDK#VERSION` (their user_agent.py)."""
    return "lib/AWS-SageMaker-Python-SDK#" in user_agent
