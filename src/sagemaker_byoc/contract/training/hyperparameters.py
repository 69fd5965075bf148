"""hyperparameters.json: names to strings, each of which may hold JSON text.

What the string holds depends on the client: boto3 sends `adam`, the SDK's framework estimators
send `"adam"` with the quotes. So the raw text is always kept, and decoded once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sagemaker_byoc.contract import facts
from sagemaker_byoc.contract.errors import DocumentError
from sagemaker_byoc.contract.files import Json, read_object, write_json
from sagemaker_byoc.contract.paths import Tree

UNPASSABLE = re.compile("[\0\ud800-\udfff]")
RESERVED_PREFIX = "sagemaker_"
RESERVED = frozenset({"_tuning_objective_metric", "default_user_module_name"})
"""Keys for the toolkit and not for the user's program (sagemaker-training params.py)."""


def decode(raw: str) -> Json:
    """Return the value in `raw` if it is JSON text, else `raw`. NaN and Infinity stay text."""

    def refuse(token: str) -> Json:
        raise ValueError(token)

    try:
        value: Json = json.loads(raw, parse_constant=refuse)
    except (ValueError, RecursionError):
        return raw
    return value


def as_text(raw: str) -> str:
    """Return `raw` as text for a program: JSON strings unquoted, null empty, all else unchanged.

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
    converted: tuple[str, ...] = ()
    """Names whose values were not strings, which SageMaker never writes."""

    @classmethod
    def read(cls, tree: Tree) -> Hyperparameters:
        """Return the tree's hyperparameters; none if there is no file.

        A file written by hand may hold numbers, booleans, null, lists and objects: they become
        their JSON text, which is what the SageMaker SDK sends.
        """
        path = tree.hyperparameters_file
        document = read_object(path) or {}
        strings: dict[str, str] = {}
        for key, value in document.items():
            strings[key] = value if isinstance(value, str) else json.dumps(value)
            if any(map(UNPASSABLE.search, (key, strings[key], as_text(strings[key])))):
                raise DocumentError(
                    where=f"{path}: {key!r}",
                    what="holds a NUL character or half of a surrogate pair, which no argument "
                    "and no variable of a program can hold",
                    hint="Remove the character, or put the text into a file of a channel",
                )
        return cls(strings, tuple(k for k, v in document.items() if not isinstance(v, str)))

    def write(self, tree: Tree) -> None:
        """Write the file, if SageMaker would accept the hyperparameters."""
        self.check()
        write_json(tree.hyperparameters_file, dict(self.raw))

    def check(self) -> None:
        """Raise DocumentError for what CreateTrainingJob would refuse."""
        most = facts.HYPERPARAMETERS.value
        if len(self.raw) > most:
            raise DocumentError(
                where="hyperparameters",
                what=f"{len(self.raw)} given, SageMaker takes {most} at most",
                hint="Pack some of them into one JSON value, or into a file of a channel",
            )
        for key, value in self.raw.items():
            for text, limit, name in (
                (key, facts.HYPERPARAMETER_KEY.value, "name"),
                (value, facts.HYPERPARAMETER_VALUE.value, "value"),
            ):
                if len(text) > limit:
                    raise DocumentError(
                        where=f"hyperparameter {key[:60]!r}",
                        what=f"has a {name} of {len(text)} characters, limit {limit}",
                        hint="Put long text into a file of a channel",
                    )

    def decoded(self) -> dict[str, Json]:
        return {key: decode(value) for key, value in self.raw.items()}

    def for_program(self) -> Iterator[tuple[str, str]]:
        """Yield the name and raw text of those that are the user's own."""
        return ((key, value) for key, value in self.raw.items() if not is_reserved(key))

    def text(self, key: str) -> str | None:
        """Return a reserved key's value as text, unquoted; None if absent, empty or null."""
        return as_text(self.raw.get(key, "")) or None


def is_reserved(key: str) -> bool:
    return key.startswith(RESERVED_PREFIX) or key in RESERVED
