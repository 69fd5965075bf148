"""The media type of a request body, from the name of its file and from its bytes."""

from __future__ import annotations

import json
from pathlib import PurePath

OCTETS = "application/octet-stream"
_BY_SUFFIX = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".jsonl": "application/jsonlines",
    ".ndjson": "application/jsonlines",
    ".npy": "application/x-npy",
    ".npz": "application/x-npz",
    ".safetensors": "application/x-safetensors",
    ".arrow": "application/vnd.apache.arrow.file",
    ".parquet": "application/x-parquet",
    ".txt": "text/plain",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".wav": "audio/wav",
}
_BY_START = (
    (b"\x93NUMPY", "application/x-npy"),
    (b"PK\x03\x04", "application/x-npz"),
    (b"PAR1", "application/x-parquet"),
    (b"ARROW1", "application/vnd.apache.arrow.file"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
)


def guess(name: str, body: bytes) -> str:
    """Return the media type; `name` is empty for a body that is not a file's."""
    by_suffix = _BY_SUFFIX.get(PurePath(name).suffix.lower())
    if by_suffix is not None:
        return by_suffix
    for start, kind in _BY_START:
        if body.startswith(start):
            return kind
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return "image/webp"
    try:
        text = body.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return OCTETS
    return OCTETS if "\0" in text else _of_text(text)


def _of_text(text: str) -> str:
    if _is_json(text):
        return "application/json"
    lines = [line for line in text.splitlines() if line.strip()]
    if lines and all(line.lstrip()[0] in "[{" and _is_json(line) for line in lines):
        return "application/jsonlines"
    if lines and all(_is_number(cell) for cell in lines[-1].split(",")):
        return "text/csv"
    commas = {line.count(",") for line in lines}
    # One line with a comma is a sentence at least as often as it is a row.
    return "text/csv" if len(lines) > 1 and len(commas) == 1 and commas != {0} else "text/plain"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_text(content_type: str) -> bool:
    """Return whether a body of this type can be shown on a terminal."""
    essence = content_type.partition(";")[0].strip().lower()
    return (
        essence.startswith("text/")
        or essence.endswith(("json", "jsonlines", "+xml", "/xml"))
        or "charset=" in content_type.lower()
    )
