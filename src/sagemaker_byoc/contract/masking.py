"""Which values are secrets, and text without them: for every line that is written of a job."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters, decode

# Not max_tokens, tokenizer or tokenise: those are among the commonest hyperparameters there are.
SECRET_KEY = re.compile(
    r"token(?!s|i[sz])|secret|password|passwd|credential|api[_-]?key|access[_-]?key", re.IGNORECASE
)
MASK = "***"
SHORTEST = 6
"""Shorter values are hidden beside their key, but not looked for in text: they'd hit words."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secret values of one job."""

    values: tuple[str, ...] = ()

    @classmethod
    def of(cls, hyperparameters: Hyperparameters, environ: Mapping[str, str]) -> Secrets:
        found = {value for key, value in environ.items() if is_secret(key)}
        found.update(_secret_texts(hyperparameters.decoded()))
        found.update(value for key, value in hyperparameters.raw.items() if is_secret(key))
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


def masked(value: Json) -> Json:
    """Return `value` with everything under a secret key hidden, at any depth."""
    if isinstance(value, dict):
        return {key: MASK if is_secret(key) else masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    return value


def shown_values(raw: Mapping[str, str]) -> dict[str, Json]:
    """Return hyperparameters for the log: as they were written, without secrets."""
    shown: dict[str, Json] = {}
    for key, text in raw.items():
        value = decode(text)
        is_plain = not isinstance(value, dict | list)
        shown[key] = MASK if is_secret(key) else text if is_plain else masked(value)
    return shown


def _secret_texts(value: Json, *, hidden: bool = False) -> Iterator[str]:
    """Yield every text under a secret key."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _secret_texts(item, hidden=hidden or is_secret(key))
    elif isinstance(value, list):
        for item in value:
            yield from _secret_texts(item, hidden=hidden)
    elif hidden and isinstance(value, str):
        yield value
