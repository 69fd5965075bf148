"""What a handler may ask about its request, and tell about its reply.

The methods with an index are those that handlers written for AWS's toolkits call; the index counts
requests of a batch there and is always 0 here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from sagemaker_byoc.contract import http
from sagemaker_byoc.serving.worker.sessions import Session

_CUSTOM_ATTRIBUTES = re.compile(r"[\x20-\x7e]*")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")
OWN_HEADERS = frozenset({"content-type", "content-length", "connection", "transfer-encoding"})
HEADERS_SIZE = 16 * 1024


@dataclass(slots=True)
class Context:
    """One request; at load time only `model_dir`, `device` and `slot` say something."""

    model_dir: str
    device: str
    slot: int
    request_id: str = ""
    content_type: str = ""
    accept: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    deadline: float = 0.0
    reply_content_type: str | None = None
    reply_headers: dict[str, str] = field(default_factory=dict)
    asked_for_predictions: bool = False
    session: Session | None = None
    """Of a request with a session, where SAGEMAKER_ENABLE_STATEFUL_SESSIONS is true."""

    @property
    def inference_id(self) -> str:
        return self.headers.get(http.INFERENCE_ID.value.lower(), "")

    @property
    def adapter(self) -> str:
        """The adapter that the request names; empty for none. It is loaded."""
        return self.headers.get(http.ADAPTER_ID.value.lower(), "")

    @property
    def custom_attributes(self) -> str:
        return self.headers.get(http.CUSTOM_ATTRIBUTES.value.lower(), "")

    def set_custom_attributes(self, text: str) -> None:
        """SageMaker hands them to the caller; without this the caller gets none back."""
        limit = http.CUSTOM_ATTRIBUTES_LENGTH.value
        if len(text) > limit or not _CUSTOM_ATTRIBUTES.fullmatch(text):
            msg = f"custom attributes are at most {limit} printable ASCII characters: {text[:80]!r}"
            raise ValueError(msg)
        self.reply_headers[http.CUSTOM_ATTRIBUTES.value] = text

    # ── as in AWS's toolkits ──

    @property
    def system_properties(self) -> dict[str, object]:
        gpu = 0 if self.device.startswith("cuda") else None
        return {"model_dir": self.model_dir, "gpu_id": gpu, "batch_size": 1}

    def get_request_id(self, _index: int = 0) -> str:
        return self.request_id

    def get_request_header(self, _index: int, key: str) -> str | None:
        own = {"content-type": self.content_type, "accept": self.accept}
        return own.get(key.lower()) or self.headers.get(key.lower())

    def set_response_content_type(self, _index: int, value: str) -> None:
        self.reply_content_type = checked_header("Content-Type", value)

    def set_response_header(self, _index: int, key: str, value: str) -> None:
        if key.lower() == "content-type":
            self.reply_content_type = checked_header(key, value)
        elif key.lower() == http.CUSTOM_ATTRIBUTES.value.lower():
            self.set_custom_attributes(value)
        else:
            self._add_header(key, value)

    def _add_header(self, key: str, value: str) -> None:
        self.reply_headers[checked_name(key)] = checked_header(key, value)
        if sum(map(len, (*self.reply_headers, *self.reply_headers.values()))) > HEADERS_SIZE:
            msg = f"the reply's headers exceed {HEADERS_SIZE} bytes"
            raise ValueError(msg)


def checked_name(name: str) -> str:
    """A header that is not ours to set."""
    if name.lower() in OWN_HEADERS or not _HEADER_NAME.fullmatch(name):
        msg = f"the reply's header {name[:80]!r} is not a handler's to set"
        raise ValueError(msg)
    return name


def checked_header(name: str, value: str) -> str:
    """A value that can't end its line, and with it the header block."""
    if not _HEADER_VALUE.fullmatch(value) or len(value) > HEADERS_SIZE:
        msg = f"{value[:80]!r} can't be the value of header {name}"
        raise ValueError(msg)
    return value
