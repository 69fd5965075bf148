"""DataCaptureConfig: which requests are captured, which directions of them, as text or as base64.

Source: service model, DataCaptureConfig and its members.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from json.encoder import encode_basestring
from typing import Any

from sagemaker_byoc.contract.facts import API_MODEL, Fact
from sagemaker_byoc.contract.hosting.capture import (
    LINE_HEAD,
    ContentTypes,
    Encoding,
    Mode,
    line_tail,
    payload_head,
    payload_tail,
)

_MODEL = f"{API_MODEL}: sagemaker"
SAMPLING_MAX = Fact(100, "percent", f"{_MODEL}.SamplingPercentage.max", "2026-11-23")
TYPES_MAX = Fact(10, "media types", f"{_MODEL}.CsvContentTypes.max", "2026-11-23", "of each kind")
CACHED = 256
"""Content types whose part of a line is kept: clients choose them."""


def is_enabled(config: Mapping[str, Any] | None) -> bool:
    """Return whether capture is on; without EnableCapture it is."""
    return bool(config) and bool((config or {}).get("EnableCapture", True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """DataCaptureConfig but for the place."""

    percentage: float = 100.0
    modes: frozenset[Mode] = frozenset(Mode)
    types: ContentTypes = field(default_factory=ContentTypes)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Selection:
        """Read a DataCaptureConfig that the service model has found valid."""
        modes: set[Mode] = set()
        for option in config["CaptureOptions"]:
            mode = option["CaptureMode"]
            modes |= {*Mode} if mode == "InputAndOutput" else {Mode(mode.upper())}
        headers = config.get("CaptureContentTypeHeader") or {}
        csv, json = (
            tuple(each.lower() for each in headers.get(key, ()))
            for key in ("CsvContentTypes", "JsonContentTypes")
        )
        return cls(
            percentage=config["InitialSamplingPercentage"],
            modes=frozenset(modes),
            types=ContentTypes(csv, json),
        )

    def takes(self, draw: Callable[[], float] = random.random) -> bool:
        """Return whether a request is captured; `draw` is uniform in [0, 1)."""
        return 100 * draw() < self.percentage


class Lines:
    """Writes the lines of one selection without making Records: a few microseconds each."""

    def __init__(self, selection: Selection) -> None:
        self._modes = [mode for mode in Mode if mode in selection.modes]
        self._types = selection.types
        self._known: dict[tuple[Mode, str], tuple[str, str, bool]] = {}

    def line(  # noqa: PLR0913 - what a record is made of
        self,
        request: bytes,
        request_type: str,
        response: bytes,
        response_type: str,
        *,
        event_id: str,
        moment: str,
        inference_id: str = "",
        custom_attributes: str = "",
    ) -> bytes:
        """Return the line, with its line feed; `moment` is what `moment_of` returns."""
        parts = [
            self._payload(mode, request, request_type)
            if mode is Mode.INPUT
            else self._payload(mode, response, response_type)
            for mode in self._modes
        ]
        attributes = (custom_attributes,) if custom_attributes else ()
        tail = line_tail(event_id, moment, inference_id, attributes)
        return f"{LINE_HEAD}{','.join(parts)}{tail}".encode()

    def _payload(self, mode: Mode, body: bytes, content_type: str) -> str:
        known = self._known.get((mode, content_type))
        head, tail, is_text = known or self._learn(mode, content_type)
        if is_text:
            try:
                return f"{head}{encode_basestring(body.decode())}{tail}"
            except UnicodeDecodeError:  # it would not come back as it was: see Payload.of
                tail = payload_tail(Encoding.BASE64)
        return f'{head}"{base64.b64encode(body).decode()}"{tail}'

    def _learn(self, mode: Mode, content_type: str) -> tuple[str, str, bool]:
        encoding = self._types.encoding_of(content_type)
        is_text = encoding is not Encoding.BASE64
        found = (payload_head(mode, content_type), payload_tail(encoding), is_text)
        if len(self._known) < CACHED:
            self._known[mode, content_type] = found
        return found
