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

    JSON text and tags of AWS ({"Key": …, "Value": …}) are looked into. What is nested too deeply
    for that is hidden as a whole.
    """
    try:
        return _masked(value)
    except RecursionError:
        return MASK


def _masked(value: Any) -> Any:
    if isinstance(value, Mapping):
        if value.keys() == _TAG and is_secret(str(value["Key"])):
            return {"Key": value["Key"], "Value": MASK}
        return {key: MASK if is_secret(str(key)) else _masked(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(item) for item in value]
    if isinstance(value, str) and value[:1] in {"{", "["}:
        inside = decode(value)
        hidden = inside if isinstance(inside, str) else _masked(inside)
        return value if hidden == inside else json.dumps(hidden)
    return value


def secret_texts(value: object) -> Iterator[tuple[str, str]]:
    """Yield the secrets in `value`, at any depth, each with the key that makes it one."""
    rest: list[tuple[object, str]] = [(value, "")]
    while rest:
        item, name = rest.pop()
        if isinstance(item, Mapping):
            is_tag = not name and item.keys() == _TAG and isinstance(item["Key"], str)
            pairs = {item["Key"]: item["Value"]} if is_tag else item
            for key, inner in pairs.items():
                rest.append((inner, name or (str(key) if is_secret(str(key)) else "")))
        elif isinstance(item, list | tuple):
            rest += [(inner, name) for inner in item]
        elif isinstance(item, str):
            if name and item:
                yield name, item
            if item[:1] in {"{", "["} and not isinstance(inside := decode(item), str):
                rest.append((inside, name))


def shown_values(raw: Mapping[str, str]) -> dict[str, Json]:
    """Return hyperparameters for the log: as they were written, without secrets."""
    shown: dict[str, Json] = {}
    for key, text in raw.items():
        value = decode(text)
        is_plain = not isinstance(value, dict | list)
        shown[key] = MASK if is_secret(key) else text if is_plain else masked(value)
    return shown
