"""The facts of a run: its parameters as JSON without secrets, its code, image and artifacts."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import math
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.contract.masking import MASK, is_secret, without_user
from sagemaker_byoc.contract.training.runs import Artifact
from sagemaker_byoc.contract.variables import CODE_COMMIT, CODE_REPOSITORY, IMAGE_DIGEST

LONGEST = 6000
"""Characters of a text; also MLflow's limit."""
MOST = 1000
"""Entries of a list or mapping."""
DEEPEST = 6
LARGEST_INT = 1023
"""Bits of an integer that all readers of JSON accept."""
GIT_SECONDS = 5.0
MOST_ELEMENTS = 100
"""Elements of an array or tensor up to which its values are written."""


def plain_parameters(given: object) -> dict[str, Json]:
    """Return a mapping, dataclass or Namespace as JSON; anything else as the entry `parameters`."""
    found = plain(given, top=True)
    return found if isinstance(found, dict) else {"parameters": found}


def plain(value: object, depth: int = 0, *, top: bool = False) -> Json:
    """Return a value as JSON. Never raise."""
    try:
        return _plain(value, depth, top=top)
    except Exception:  # noqa: BLE001 - from the value's code, such as __repr__
        return f"<{type(value).__name__}>"


def _plain(value: Any, depth: int, *, top: bool) -> Json:
    if isinstance(value, enum.Enum):
        return plain(value.value, depth + 1)
    if value is None or type(value) is bool:
        return value
    if type(value) is int and value.bit_length() <= LARGEST_INT:
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if depth < DEEPEST and not isinstance(value, str | os.PathLike):
        found = _with_parts(value, depth, top=top)
        if found is not None:
            return found
    return _text(value)[:LONGEST]


def _with_parts(value: Any, depth: int, *, top: bool) -> Json:
    """Return a container or array as JSON; None for any other value."""
    entries = _entries(value, top=top)
    if entries is not None:
        return {
            _text(key)[:LONGEST]: MASK if is_secret(_text(key)) else plain(one, depth + 1)
            for key, one in [*entries.items()][:MOST]
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one, depth + 1) for one in [*value][:MOST]]
    if hasattr(value, "tolist") and hasattr(value, "shape"):  # numpy, torch
        return _array(value, depth)
    return None


def _text(value: Any) -> str:
    if isinstance(value, enum.Enum):
        return _text(value.value)
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return str(value)


def _entries(value: Any, *, top: bool) -> Mapping[Any, Any] | None:
    if isinstance(value, Mapping):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    is_namespace = type(value).__name__ in {"Namespace", "SimpleNamespace"}
    return vars(value) if is_namespace or (top and hasattr(value, "__dict__")) else None


def _array(value: Any, depth: int) -> Json:
    count = math.prod(value.shape)
    if count > MOST_ELEMENTS:
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    return plain(value.tolist(), depth + 1)


def code_commit(environ: Mapping[str, str], folder: Path) -> tuple[str, str]:
    """Return commit and repository, from variables or a .git folder; empty without both."""
    if environ.get(CODE_COMMIT):
        return environ[CODE_COMMIT], environ.get(CODE_REPOSITORY, "")
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return "", ""
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    origin = _git(folder, "remote", "get-url", "origin")
    return commit + ("-dirty" if changes else ""), without_user(origin)


def image_digest(environ: Mapping[str, str]) -> str:
    return environ.get(IMAGE_DIGEST) or environ.get("TRAINING_IMAGE", "")


def artifact(name: str, value: str | os.PathLike[str]) -> Artifact:
    """Describe a file with its size and SHA-256, or anything else, such as an address."""
    text = os.fspath(value)
    path = Path(text)
    if not path.is_file():
        return Artifact(name, text)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return Artifact(name, text, digest.hexdigest(), path.stat().st_size)


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
