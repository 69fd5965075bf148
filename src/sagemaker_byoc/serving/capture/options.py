"""Capture settings, read from the environment. Standard library only."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sagemaker_byoc.contract import capture, variables
from sagemaker_byoc.contract.capture import ContentTypes, Encoding, Mode, Selection
from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.serving.reader import Reader

MODES = {"both": frozenset(Mode), "input": {Mode.INPUT}, "output": {Mode.OUTPUT}}
SECONDS = 60.0
MEGABYTES = 64
BODY_MEGABYTES = 6
"""The limit of InvokeEndpoint for years, and of the local region."""
FREE_PERCENT = 10.0
CHOSEN = "capture"
"""Metadata key of a request that is captured; the front sets it, workers with a redact_fn read
it."""
_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureSettings:
    """Capture settings as plain values that can travel as JSON. Sizes are in bytes."""

    folder: str
    percentage: float = 100.0
    mode: str = "both"
    csv_types: tuple[str, ...] = capture.CSV_TYPES.value
    json_types: tuple[str, ...] = capture.JSON_TYPES.value
    seconds: float = SECONDS
    size: int = MEGABYTES * 2**20
    body: int = BODY_MEGABYTES * 2**20
    queue: int = MEGABYTES * 2**20
    free_percent: float = FREE_PERCENT

    @property
    def selection(self) -> Selection:
        return Selection(
            percentage=self.percentage,
            modes=frozenset(MODES[self.mode]),
            types=ContentTypes(self.csv_types, self.json_types),
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return settings from what dataclasses.asdict made, also after JSON."""
        types = {name: tuple(values[name]) for name in ("csv_types", "json_types")}
        return cls(**{**values, **types})

    @classmethod
    def read(cls, read: Reader) -> Self | None:
        """Return the settings, or None if capture is off; raise ContractError for a wrong value."""
        folder = read.text(variables.CAPTURE)
        if not folder:
            return None
        if read.text(variables.MULTI_MODEL).lower() == "true":
            raise ContractError(
                where=variables.CAPTURE,
                what="is set on a multi-model endpoint, whose requests SageMaker does not capture",
                hint="Remove it, or serve one model",
            )
        return cls(
            folder=folder,
            percentage=_percent(read, variables.CAPTURE_PERCENT, 100.0),
            mode=read.choice(variables.CAPTURE_MODE, tuple(MODES)),
            csv_types=_types(read, variables.CAPTURE_CSV_TYPES, capture.CSV_TYPES.value),
            json_types=_types(read, variables.CAPTURE_JSON_TYPES, capture.JSON_TYPES.value),
            seconds=read.seconds(variables.CAPTURE_SECONDS, default=SECONDS),
            size=read.count(variables.CAPTURE_MB, default=MEGABYTES) * 2**20,
            body=read.count(variables.CAPTURE_BODY_MB, default=BODY_MEGABYTES) * 2**20,
            queue=read.count(variables.CAPTURE_QUEUE_MB, default=MEGABYTES) * 2**20,
            free_percent=_percent(read, variables.CAPTURE_FREE_PERCENT, FREE_PERCENT),
        )


def _percent(read: Reader, name: str, default: float) -> float:
    value = read.seconds(name, default=default, least=0.0)
    most = capture.SAMPLING_MAX.value
    if value > most:
        raise ContractError(
            where=name, what=f"is {value:g}", hint=f"Give a percentage of 0 to {most}"
        )
    return value


def _types(read: Reader, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    text = read.text(name)
    if not text:
        return default
    types = tuple(each.strip().lower() for each in text.split(","))
    wrong = [each for each in types if not _TYPE.fullmatch(each)]
    most = capture.TYPES_MAX.value
    if wrong or len(types) > most:
        what = (
            f"has {wrong[0]!r}, which is not a media type" if wrong else f"has {len(types)} types"
        )
        raise ContractError(
            where=name,
            what=what,
            hint=f"Give up to {most} types without parameters, separated by commas: text/csv",
        )
    return types


def prepare(settings: CaptureSettings) -> None:
    """Raise ContractError now if the folder cannot be written to."""
    folder = Path(settings.folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file, path = tempfile.mkstemp(prefix=".probe-", dir=folder)
        os.close(file)
        Path(path).unlink()
    except OSError as error:
        raise ContractError(
            where=variables.CAPTURE,
            what=f"is {folder}, where no file can be written ({error.strerror})",
            hint="Name a folder that this user may write to, or remove the variable",
        ) from error


def warnings(settings: CaptureSettings, default_accept: str) -> list[str]:
    """Return warnings about captures that a monitor cannot read, as far as they are known before a
    request."""
    if settings.mode == "input":
        return []
    return [useless("replies", default_accept)] if is_opaque(settings, default_accept) else []


def is_opaque(settings: CaptureSettings, content_type: str) -> bool:
    """Return whether bodies of that type cannot be read as CSV or JSON."""
    return settings.selection.types.encoding_of(content_type) is Encoding.BASE64


def useless(what: str, content_type: str) -> str:
    """Return a warning about bodies of a type that a monitor cannot read."""
    kind = f"of type {content_type}" if content_type else "without a Content-Type"
    return (
        f"warning: capture: {what} {kind} are kept as BASE64, which a monitor can't read. Use "
        "text/csv or application/json, or name the type in "
        f"{variables.CAPTURE_CSV_TYPES} or {variables.CAPTURE_JSON_TYPES} "
        "if it is CSV or JSON"
    )
