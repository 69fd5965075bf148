"""hyperparameters.json: names to strings, each of which may hold JSON text.

What the string holds depends on the client: boto3 sends `adam`, the SDK's framework estimators
send `"adam"` with the quotes. So the raw text is always kept, and decoded once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sagemaker_byoc.contract import limits
from sagemaker_byoc.contract.errors import DocumentError
from sagemaker_byoc.contract.files import Json, read_object, write_json
from sagemaker_byoc.contract.paths import Tree

RESERVED_PREFIX = "sagemaker_"
RESERVED = frozenset({"_tuning_objective_metric", "default_user_module_name"})
"""Keys that are for the toolkit and not for the user's program (sagemaker-training params.py)."""


def decode(raw: str) -> Json:
    """The value in `raw` if it is JSON text, else `raw` itself. NaN and Infinity stay text."""

    def refuse(token: str) -> Json:
        raise ValueError(token)

    try:
        value: Json = json.loads(raw, parse_constant=refuse)
    except (ValueError, RecursionError):
        return raw
    return value


def as_text(raw: str) -> str:
    """`raw` for a program that reads text: JSON strings unquoted, null empty, all else unchanged.

    So 1.10 stays 1.10, which may be a version.
    """
    value = decode(raw)
    if value is None:
        return ""
    return value if isinstance(value, str) else raw


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The raw strings, as SageMaker wrote them."""

    raw: Mapping[str, str]

    @classmethod
    def read(cls, tree: Tree) -> Hyperparameters:
        """From the tree; none where there is no file."""
        path = tree.hyperparameters_file
        document = read_object(path) or {}
        strings: dict[str, str] = {}
        for key, value in document.items():
            if not isinstance(value, str):
                raise DocumentError(
                    where=f"{path}: {key!r}",
                    what=f"has value {json.dumps(value)} of type {type(value).__name__}, "
                    "and SageMaker passes strings only",
                    cure=f"Write {json.dumps(json.dumps(value))}",
                )
            strings[key] = value
        return cls(strings)

    def write(self, tree: Tree) -> None:
        """Into the tree, if SageMaker would accept them."""
        self.check()
        write_json(tree.hyperparameters_file, dict(self.raw))

    def check(self) -> None:
        """Raise for what CreateTrainingJob would refuse."""
        if len(self.raw) > limits.HYPERPARAMETERS.value:
            raise DocumentError(
                where="hyperparameters",
                what=f"are {len(self.raw)}, and SageMaker takes {limits.HYPERPARAMETERS.value}",
                cure="Pack some of them into one JSON value, or into a file of a channel",
            )
        for key, value in self.raw.items():
            for text, limit, name in (
                (key, limits.HYPERPARAMETER_KEY.value, "name"),
                (value, limits.HYPERPARAMETER_VALUE.value, "value"),
            ):
                if len(text) > limit:
                    raise DocumentError(
                        where=f"hyperparameter {key[:60]!r}",
                        what=f"has a {name} of {len(text)} characters, limit {limit}",
                        cure="Put long text into a file of a channel",
                    )

    def decoded(self) -> dict[str, Json]:
        return {key: decode(value) for key, value in self.raw.items()}

    def for_program(self) -> Iterator[tuple[str, str]]:
        """Name and raw text of those that are the user's own."""
        return ((key, value) for key, value in self.raw.items() if not is_reserved(key))

    def text(self, key: str) -> str | None:
        """A reserved key's value as text, JSON quotes removed; None where absent or empty."""
        raw = self.raw.get(key)
        if raw is None:
            return None
        value = decode(raw)
        return (value if isinstance(value, str) else raw) or None


def is_reserved(key: str) -> bool:
    return key.startswith(RESERVED_PREFIX) or key in RESERVED
