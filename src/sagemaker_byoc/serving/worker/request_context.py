"""The context of a request: what a handler can read about it, and set for its reply.

Handlers written for AWS's toolkits, multi-model-server and TorchServe call the methods with an
index; it counts the requests of a batch there and is always 0 here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sagemaker_byoc import __version__
from sagemaker_byoc.contract import http
from sagemaker_byoc.serving import log
from sagemaker_byoc.serving.worker.code import model_files
from sagemaker_byoc.serving.worker.sessions import Session

_CUSTOM_ATTRIBUTES = re.compile(r"[\x20-\x7e]*")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")
OWN_HEADERS = frozenset({"content-type", "content-length", "connection", "transfer-encoding"})
HEADERS_SIZE = 16 * 1024
MANIFEST_SIZE = 2**20
METRIC_LENGTH = 500


@dataclass(slots=True)
class Context:
    """One request; while loading only `model_dir`, `device` and `slot` are set."""

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
    reply_status: int = 200
    model_name: str = "model"
    asked_for_predictions: bool = False
    session: Session | None = None
    """The session of a request that has one, if SAGEMAKER_ENABLE_STATEFUL_SESSIONS is true."""

    @property
    def inference_id(self) -> str:
        return self.headers.get(http.INFERENCE_ID.value.lower(), "")

    @property
    def adapter(self) -> str:
        """Return the name of the request's adapter, which is loaded; empty for none."""
        return self.headers.get(http.ADAPTER_ID.value.lower(), "")

    @property
    def custom_attributes(self) -> str:
        return self.headers.get(http.CUSTOM_ATTRIBUTES.value.lower(), "")

    def set_custom_attributes(self, text: str) -> None:
        """Set the custom attributes of the reply, which SageMaker passes to the caller."""
        limit = http.CUSTOM_ATTRIBUTES_LENGTH.value
        if len(text) > limit or not _CUSTOM_ATTRIBUTES.fullmatch(text):
            msg = f"custom attributes are at most {limit} printable ASCII characters: {text[:80]!r}"
            raise ValueError(msg)
        self.reply_headers[http.CUSTOM_ATTRIBUTES.value] = text

    # ── as in AWS's toolkits ──

    @property
    def system_properties(self) -> dict[str, object]:
        gpu = 0 if self.device.startswith("cuda") else None  # the only one that the worker sees
        return {
            "model_dir": self.model_dir,
            "gpu_id": gpu,
            "batch_size": 1,
            "server_name": "sagemaker-byoc",
            "server_version": __version__,
            "limit_max_image_pixels": True,
        }

    @property
    def manifest(self) -> dict[str, Any]:
        """Return the manifest of a model archive, or one made of the model's name and file."""
        return manifest_of(Path(self.model_dir), self.model_name)

    @property
    def model_yaml_config(self) -> dict[str, Any]:
        return {}

    @property
    def request_ids(self) -> dict[int, str]:
        return {0: self.request_id}

    @property
    def request_processor(self) -> list[RequestProcessor]:
        return [RequestProcessor(self)]

    @property
    def metrics(self) -> RequestMetrics:
        return RequestMetrics(self.request_id)

    @property
    def explain(self) -> bool:
        return self.get_request_header(0, "explain") == "True"

    def get_request_id(self, _index: int = 0) -> str:
        return self.request_id

    def get_sequence_id(self, index: int = 0) -> str:
        name: str = os.environ.get("TS_REQUEST_SEQUENCE_ID", "ts_request_sequence_id")
        return self.get_request_header(index, name) or ""

    def get_request_header(self, _index: int, key: str) -> str | None:
        return self.get_all_request_header().find(key)

    def get_all_request_header(self, _index: int = 0) -> Headers:
        own = {"Content-Type": self.content_type, "Accept": self.accept}
        return Headers({**self.headers, **{name: text for name, text in own.items() if text}})

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """Set the status; the phrase is dropped, since clients of SageMaker cannot see it."""
        del phrase, idx
        if not 200 <= code <= 599:  # also of HTTPStatus
            msg = f"the reply's status must be 200 to 599, not {code!r}"
            raise ValueError(msg)
        self.reply_status = int(code)

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        self.set_response_status(code, phrase)

    def get_response_status(self, _index: int = 0) -> tuple[int, str]:
        return self.reply_status, ""

    def get_response_headers(self, _index: int = 0) -> Headers:
        own = {} if self.reply_content_type is None else {"content-type": self.reply_content_type}
        return Headers({**self.reply_headers, **own})

    def get_response_content_type(self, _index: int = 0) -> str | None:
        return self.reply_content_type

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
    """Return the name of a header that a handler may set; raise ValueError for others."""
    if name.lower() in OWN_HEADERS or not _HEADER_NAME.fullmatch(name):
        msg = f"the reply's header {name[:80]!r} is not a handler's to set"
        raise ValueError(msg)
    return name


def checked_header(name: str, value: str) -> str:
    """Return a header value without line breaks, which would end the header; raise ValueError for
    others."""
    if not _HEADER_VALUE.fullmatch(value) or len(value) > HEADERS_SIZE:
        msg = f"{value[:80]!r} can't be the value of header {name}"
        raise ValueError(msg)
    return value


class Headers(dict[str, str]):
    """Headers by name, whatever its case: handlers read `Accept`, `accept` and `ACCEPT`."""

    def __getitem__(self, key: str) -> str:
        found = self.find(key)
        if found is None:
            raise KeyError(key)
        return found

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key) is not None

    def get(self, key: str, default: Any = None) -> Any:
        return next((text for name, text in self.items() if name.lower() == key.lower()), default)

    def find(self, key: str) -> str | None:
        found: str | None = self.get(key)
        return found


@dataclass(frozen=True, slots=True)
class RequestProcessor:
    """One request of the batch, by the name that multi-model-server and TorchServe use."""

    context: Context

    def get_request_property(self, key: str) -> str | None:
        return self.context.get_request_header(0, key)

    def get_request_properties(self) -> Headers:
        return self.context.get_all_request_header()

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        self.context.set_response_status(code, reason_phrase or "")

    def get_response_status_code(self) -> int:
        return self.context.reply_status

    def get_response_status_phrase(self) -> str:
        return ""

    def add_response_property(self, key: str, value: str) -> None:
        self.context.set_response_header(0, key, value)

    def get_response_headers(self) -> Headers:
        return self.context.get_response_headers()

    def get_response_header(self, key: str) -> str | None:
        return self.context.get_response_headers().find(key)


@dataclass(frozen=True, slots=True)
class RequestMetrics:
    """A handler's own metrics: each is a line in the log, with the request's id."""

    request_id: str

    def add_counter(self, name: str, value: float, _idx: object = None, **_: object) -> None:
        self._say(name, value, "Count")

    def add_time(
        self, name: str, value: float, _idx: object = None, unit: str = "ms", **_: object
    ) -> None:
        self._say(name, value, {"ms": "Milliseconds", "s": "Seconds"}.get(unit, unit))

    def add_size(
        self, name: str, value: float, _idx: object = None, unit: str = "MB", **_: object
    ) -> None:
        units = {"B": "Bytes", "kB": "Kilobytes", "MB": "Megabytes", "GB": "Gigabytes"}
        self._say(name, value, units.get(unit, unit))

    def add_percent(self, name: str, value: float, _idx: object = None, **_: object) -> None:
        self._say(name, value, "Percent")

    def add_error(self, name: str, value: object, **_: object) -> None:
        self._say(name, value, "Error")

    def add_metric(
        self, name: str, value: float, *more: object, unit: object = None, **_: object
    ) -> None:
        """Add a metric. The two servers disagree on the order of index and unit: the text is the
        unit."""
        found = next((text for text in (unit, *more) if isinstance(text, str)), "")
        self._say(name, value, found)

    def _say(self, name: object, value: object, unit: str) -> None:
        text = f"metric {name} {value} {unit}".strip()[:METRIC_LENGTH]
        shown = "".join(letter if letter.isprintable() else "?" for letter in text)
        log.say(f"{shown}, request {self.request_id}" if self.request_id else shown)


def manifest_of(model_dir: Path, model_name: str) -> dict[str, Any]:
    """Return MANIFEST.json of a model archive; else what TorchServe's handlers look up in one."""
    for place in (model_dir / "MAR-INF", model_dir):
        path = place / "MANIFEST.json"
        if path.is_file() and path.stat().st_size <= MANIFEST_SIZE:
            found = json.loads(path.read_bytes())
            if isinstance(found, dict) and isinstance(found.get("model"), dict):
                return found
    model = {"modelName": model_name, **_serialized(model_dir)}
    return {"model": model, "createdOn": "", "runtime": "python"}


def _serialized(model_dir: Path) -> dict[str, str]:
    return next(
        (
            {"serializedFile": path.name}
            for path in model_files.files_of(model_dir)
            if path.suffix in model_files.TORCH_SAVED or path.suffix in {".pt2", ".onnx"}
        ),
        {},
    )
