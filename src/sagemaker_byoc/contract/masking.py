"""Which keys name secrets, and how secret values are removed from text and documents."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters, decode

# Not max_tokens, tokenizer or tokenise: those are among the commonest hyperparameters there are.
SECRET_KEY = re.compile(
    r"token(?!s|i[sz])|secret|password|passwd|credential|api[_-]?key|access[_-]?key", re.IGNORECASE
)
MASK = "***"
SHORTEST = 6
"""Shorter values are hidden beside their key, but not looked for in text: words would match."""
_TAG = {"Key", "Value"}


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secret values of one job."""

    values: tuple[str, ...] = ()

    @classmethod
    def of(cls, hyperparameters: Hyperparameters, environ: Mapping[str, str]) -> Secrets:
        found = {value for key, value in environ.items() if is_secret(key)}
        for given in (hyperparameters.raw, hyperparameters.decoded()):
            found.update(text for _, text in secret_texts(given))
        # Longest first, so that a secret inside another leaves no remains of the longer one.
        return cls(tuple(sorted((v for v in found if len(v) >= SHORTEST), key=len, reverse=True)))

    def mask(self, text: str) -> str:
        for value in self.values:
            text = text.replace(value, MASK)
        return text


def is_secret(key: str) -> bool:
    return SECRET_KEY.search(key) is not None


def without_user(address: str) -> str:
    """Return an address without the user and password that a clone's may hold."""
    scheme, separator, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}" if separator else address


def masked(value: Any) -> Any:
    """Return `value` with everything under a secret key hidden, at any depth.

    JSON text and tags of AWS ({"Key": …, "Value": …}) are looked into.
    """
    if isinstance(value, Mapping):
        if value.keys() == _TAG and is_secret(str(value["Key"])):
            return {"Key": value["Key"], "Value": MASK}
        return {key: MASK if is_secret(str(key)) else masked(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item) for item in value]
    if isinstance(value, str) and value[:1] in {"{", "["}:
        inside = decode(value)
        hidden = inside if isinstance(inside, str) else masked(inside)
        return value if hidden == inside else json.dumps(hidden)
    return value


def secret_texts(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the secrets in `value`, each with its key; `name` is that of a secret around it."""
    if isinstance(value, Mapping):
        pairs = {str(value["Key"]): value["Value"]} if value.keys() == _TAG else value
        for key, item in pairs.items():
            yield from secret_texts(item, name or (str(key) if is_secret(str(key)) else ""))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from secret_texts(item, name)
    elif isinstance(value, str):
        if name and value:
            yield name, value
        if value[:1] in {"{", "["} and not isinstance(inside := decode(value), str):
            yield from secret_texts(inside, name)


def shown_values(raw: Mapping[str, str]) -> dict[str, Json]:
    """Return hyperparameters for the log: as they were written, without secrets."""
    shown: dict[str, Json] = {}
    for key, text in raw.items():
        value = decode(text)
        is_plain = not isinstance(value, dict | list)
        shown[key] = MASK if is_secret(key) else text if is_plain else masked(value)
    return shown
