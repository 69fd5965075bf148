"""What a request's headers say, and what of it a model worker is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sagemaker_byoc.contract.hosting import http
from sagemaker_byoc.serving.front.http.coding import names_of
from sagemaker_byoc.serving.front.http.replies import Call

SAGEMAKER = b"x-amzn-sagemaker-"
INFERENCE_ID = http.INFERENCE_ID.value.lower()


@dataclass(slots=True)
class Incoming:
    """The request but for its body."""

    meta: dict[str, Any]
    """For the worker. Of all headers only the platform's go on, since it strips the rest."""
    length: int | None
    """None for a chunked body."""
    expects: bool
    """The client waits for a 100 (Continue) before it sends the body."""
    codings: list[str]
    """Names in its Content-Encoding, in their order."""


def read_head(headers: Iterable[tuple[bytes, bytes]], call: Call) -> Incoming:
    """From headers with names in lower case."""
    found: dict[bytes, bytes] = {}
    platform: dict[str, str] = {}
    for name, value in headers:
        if name == b"content-encoding" and name in found:
            value = found[name] + b"," + value  # noqa: PLW2901 - lines of one list
        if name.startswith(SAGEMAKER):
            platform[name.decode("latin-1")] = value.decode("latin-1")
        else:
            found[name] = value
    meta: dict[str, Any] = {
        "content_type": found.get(b"content-type", b"").decode("latin-1"),
        "accept": found.get(b"accept", b"").decode("latin-1"),
        "request_id": call.request_id,
    }
    if platform:
        meta["headers"] = platform
        call.inference_id = platform.get(INFERENCE_ID, "")
    length = None if b"transfer-encoding" in found else int(found.get(b"content-length", b"0"))
    encoding = found.get(b"content-encoding")
    codings = [] if encoding is None else names_of(encoding.decode("latin-1"))
    return Incoming(meta, length, b"expect" in found, codings)
