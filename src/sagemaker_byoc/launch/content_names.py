"""Names made from content: the same settings and the same bytes make the same name."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract import facts
from sagemaker_byoc.contract.masking import is_secret
from sagemaker_byoc.launch.problems import SettingsError

DIGITS = 12
"""Digits of a hash in a name."""
_CHUNK = 1 << 20
_ROUNDS = 200_000
"""Rounds of PBKDF2: a name is public, and a short secret must not be guessed from it."""


def content_name(stem: str, content: Mapping[str, Any], *, tail: str = "") -> str:
    """Join `stem`, a hash of `content`, and `tail`; cut the stem if it is too long."""
    rest = "-".join(part for part in (digest_of(content), tail) if part)
    room = facts.JOB_NAME_LENGTH.value - len(rest) - 1
    return f"{stem[:room].rstrip('-')}-{rest}"


def digest_of(content: Mapping[str, Any]) -> str:
    text = json.dumps(_public(content), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def check_name(where: str, name: str) -> str:
    """Return the name. Raise SettingsError unless SageMaker accepts it."""
    if not is_name(name):
        raise SettingsError(
            f"{where}: name is {name!r}, which SageMaker does not accept",
            hint=f"Use up to {facts.JOB_NAME_LENGTH.value} letters, digits and single hyphens",
        )
    return name


def is_name(text: str) -> bool:
    return re.fullmatch(facts.JOB_NAME.value, text) is not None


def legal_name(text: str) -> str:
    """Return a name made from any text, such as a folder's name."""
    return re.sub(r"[^a-zA-Z0-9]+", "-", text).strip("-")[:40].strip("-") or "program"


def file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _public(value: Any, name: str = "") -> Any:
    """Replace each secret with a slow hash, so that a new secret makes a new name."""
    if isinstance(value, Mapping):
        return {key: _public(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_public(item, name) for item in value]
    if isinstance(value, str) and value and is_secret(name):
        return _slow(name, value)
    return value


@lru_cache(maxsize=256)
def _slow(name: str, secret: str) -> str:
    return hashlib.pbkdf2_hmac("sha256", secret.encode(), name.encode(), _ROUNDS).hex()
