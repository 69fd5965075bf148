"""JSON documents: small files, read and written whole or not at all, and the values in them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TypeAlias

from sagemaker_byoc.contract.errors import DocumentError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


def as_object(value: object) -> dict[str, Json]:
    """Return a JSON object as it is, and an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Json]:
    """Return a JSON array as it is, and an empty one for anything else."""
    return value if isinstance(value, list) else []


def as_string(value: object) -> str:
    """Return a JSON string as it is, and an empty one for anything else."""
    return value if isinstance(value, str) else ""


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` so that a reader, or a crash at any instant, sees the old file or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, document: Json) -> None:
    write_atomically(path, json.dumps(document, indent=2).encode() + b"\n")


def read_object(path: Path) -> dict[str, Json] | None:
    """Return the JSON object in `path`; None if there is no such file. Raise DocumentError."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DocumentError(
            where=str(path),
            what=f"can't be read ({error.strerror})",
            hint="Make it readable for the container's user",
        ) from error
    return parse_object(text, str(path))


def parse_object(text: bytes | str, where: str) -> dict[str, Json]:
    """Return the JSON object in `text`. Raise DocumentError."""
    if not text.strip():
        raise DocumentError(where=where, what="is empty", hint="Write {}, or remove the file")
    try:
        document: Json = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        what = f"is not JSON ({error})"
        raise DocumentError(where=where, what=what, hint="Write one JSON object") from error
    except KeyError as error:
        what = f"has the name {error} twice"
        raise DocumentError(where=where, what=what, hint="Remove one of the two") from error
    if not isinstance(document, dict):
        what = f"holds a JSON {type(document).__name__}, not an object"
        raise DocumentError(where=where, what=what, hint="Write one JSON object")
    return document


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    """Return the object of `pairs`; raise KeyError for a name that comes twice."""
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs]
        raise KeyError(next(name for name in names if names.count(name) > 1))
    return document
