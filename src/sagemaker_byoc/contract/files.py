"""Reading and writing the contract's small files: whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TypeAlias

from sagemaker_byoc.contract.errors import DocumentError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


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
    """The JSON object in `path`; None where there is no such file."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DocumentError(
            where=str(path),
            what=f"can't be read ({error.strerror})",
            cure="Make it readable for the container's user",
        ) from error
    try:
        document: Json = json.loads(text)
    except ValueError as error:
        raise DocumentError(
            where=str(path), what=f"is not JSON ({error})", cure="Write one JSON object"
        ) from error
    if not isinstance(document, dict):
        raise DocumentError(
            where=str(path),
            what=f"holds a JSON {type(document).__name__}, not an object",
            cure="Write one JSON object",
        )
    return document
