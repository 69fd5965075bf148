"""URLs that clients name for the region to send to: targets of rules, actions of alarms."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from sagemaker_byoc.region.core.account import CALLER
from sagemaker_byoc.region.wire.operations import AwsError

_SCHEME = re.compile(r"https?://", re.IGNORECASE)


def is_url(text: str) -> bool:
    return _SCHEME.match(text) is not None


def check_url(url: str, *, code: str = "ValidationException") -> None:
    """Raise AwsError with `code` for a URL that can't be sent to."""
    try:
        parts = urlsplit(url)
        is_good = is_url(url) and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, is_good = urlsplit(""), False
    if not is_good or not url.isascii() or not url.isprintable() or " " in url:
        raise AwsError(code, f"{url!r} is not a URL such as http://127.0.0.1:8080/events")
    if parts.username is not None or parts.fragment:
        raise AwsError(code, f"{url!r} may not have a user or a fragment; use a connection")


def require_owner() -> None:
    """Raise AwsError unless the region's owner asks.

    A container with temporary keys could otherwise reach what listens on the owner's machine.
    """
    caller = CALLER.get()
    if caller is not None and not caller.is_owner:
        raise AwsError(
            "AccessDeniedException", f"{caller.arn} may not name URLs as targets or actions"
        )
