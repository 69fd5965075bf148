"""A table of settings, read key by key, and all that is wrong with it, reported in one run.

A refusal names file, key, value and hint.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sagemaker_byoc.contract.errors import RequestError


class SettingsError(RequestError):
    """An unknown key, a value of another type, a folder that does not exist."""


@dataclass(slots=True)
class Problems:
    """The first error of each setting, and warnings."""

    errors: dict[str, SettingsError] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def add(self, place: str, error: SettingsError) -> None:
        """`place` names the file, the table and the key."""
        self.errors.setdefault(place, error)

    def report(self, place: str, what: str, hint: str) -> None:
        """Add what is wrong at `place`, whose name `what` follows."""
        self.add(place, SettingsError(f"{place} {what}", hint=hint))

    def warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def check(self, where: str) -> None:
        """Raise SettingsError with all errors, if there are any; `where` is the table."""
        found = [*self.errors.values()]
        if len(found) == 1:
            raise found[0]
        if found:
            lines = [
                f"\n  {error.what.removeprefix(f'{where}: ')}\n      {error.hint}"
                for error in found
            ]
            raise SettingsError(
                f"{where}: {len(found)} settings are missing or wrong:{''.join(lines)}",
                hint="Correct all of them in the file, or with --set KEY=VALUE",
            )


_UNSHOWN = frozenset({"environment", "hyperparameters"})
"""Tables that may hold secrets."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Written(float):
    """A number that remembers how it was written: a version 1.10 is not 1.1."""

    text: str

    def __new__(cls, text: str) -> Written:
        number = super().__new__(cls, text)
        number.text = text
        return number


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML, keeping numbers as written. Raise tomllib.TOMLDecodeError."""
    return tomllib.loads(text, parse_float=Written)


def as_text(value: object) -> str:
    """Return a setting as the text that a container gets: as it was written, or as JSON."""
    match value:
        case str():
            return value
        case Written():
            return value.text
        case bool() | int() | float() | list() | dict():
            return json.dumps(value)
    return str(value)


def overlaid(table: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """Set each KEY=VALUE of `settings` in `table`; KEY may be dotted, VALUE is TOML or text."""
    found = dict(table)
    for setting in settings:
        found = merged(found, _parsed(setting))
    return found


def _parsed(setting: str) -> dict[str, Any]:
    key, equals, value = setting.partition("=")
    if equals and key.strip():
        for candidate in (value, json.dumps(value)):
            try:
                return parse_toml(f"{key} = {candidate}")
            except tomllib.TOMLDecodeError:
                continue
    raise SettingsError(
        f"--set {key!r} is not KEY=VALUE",  # the value may be a secret
        hint="Write --set instance-type=ml.m5.large, or --set hyperparameters.epochs=3",
    )


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two tables: tables in both are merged, anything else in `above` wins."""
    found = dict(below)
    for key, value in above.items():
        old = found.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            found[key] = merged(old, value)
        else:
            found[key] = value
    return found


class Table:
    """`where` names the file and the table; `keys` are all that it may have, None for any.

    What is wrong is added to `problems`, and a default is returned in its place; without
    `problems` it is raised as SettingsError.
    """

    def __init__(
        self,
        where: str,
        values: object,
        keys: Collection[str] | None = None,
        problems: Problems | None = None,
    ) -> None:
        self._where = where
        self._problems = problems
        self._values: dict[str, Any] = values if isinstance(values, dict) else {}
        if not isinstance(values, dict):
            error = SettingsError(
                f"{where} is {_show(values)}, not a table", hint="Write KEY = VALUE"
            )
            self._tell(where, error)
        for key in self._values:
            if keys is not None and key not in keys:
                near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
                hint = f"Did you mean {near[0]}?" if near else f"Use {', '.join(sorted(keys))}"
                self._tell(
                    f"{where}: {key}", SettingsError(f"{where}: there is no key {key}", hint=hint)
                )

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def inner(self, key: str, values: object, keys: Collection[str]) -> Table:
        """Return a table inside this one."""
        return Table(f"{self._where}: {key}", values, keys, self._problems)

    def wrong(self, key: str, hint: str) -> None:
        """Report the value of `key`, or that it is missing."""
        value = self._values.get(key)
        shown = "is missing" if value is None else f"is {_show(value)}"
        if value is not None and key in _UNSHOWN:
            shown = f"is a {type(value).__name__}"
        self.refuse(key, shown, hint)

    def wrong_value(self, key: str, value: str, hint: str) -> None:
        """Report a value inside of `key`, which may be dotted."""
        self.refuse(key, f"is {_show(value)}", hint)

    def refuse(self, key: str, what: str, hint: str) -> None:
        """Report something else about `key`; `what` follows its name."""
        error = SettingsError(f"{self._where}: {key} {what}", hint=hint)
        self._tell(f"{self._where}: {key}", error)

    def _tell(self, place: str, error: SettingsError) -> None:
        if self._problems is None:
            raise error
        self._problems.add(place, error)

    def text(self, key: str) -> str:
        """Return the text, empty if the key is absent."""
        value = self._values.get(key, "")
        if isinstance(value, str):
            return value
        self.wrong(key, f'Write {key} = "TEXT"')
        return ""

    def required(self, key: str, example: str) -> str:
        value = self.text(key)
        if not value:
            self.wrong(key, f'Write {key} = "{example}", or give --set {key}={example}')
        return value

    def number(self, key: str, default: int, *, least: int = 1) -> int:
        value = self._values.get(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        self.wrong(key, f"Write a whole number, {least} or more: {key} = {default}")
        return default

    def flag(self, key: str) -> bool:
        value = self._values.get(key, False)
        if isinstance(value, bool):
            return value
        self.wrong(key, f"Write {key} = true, or leave it out")
        return False

    def duration(self, key: str, default: int) -> int:
        """Return seconds, written as a number, or as `90s`, `45m`, `12h`, `2d` and their sums."""
        value = self._values.get(key, default)
        if isinstance(value, str) and re.fullmatch(r"(\d{1,9}[smhd]\s*)+", value):
            parts = re.findall(r"(\d+)([smhd])", value)
            value = sum(int(count) * _UNITS[unit] for count, unit in parts)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            return value
        self.wrong(key, f'Write seconds, or {key} = "2h30m"')
        return default

    def plain(self, key: str) -> str | None:
        """Return a number or a text as it was written, None if the key is absent."""
        value = self._values.get(key)
        if value is None or (isinstance(value, str | int | float) and not isinstance(value, bool)):
            return None if value is None else as_text(value)
        self.wrong(key, f'Write {key} = "TEXT"')
        return None

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._values.get(key, [])
        if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
            return tuple(value)
        self.wrong(key, f'Write {key} = ["TEXT", "TEXT"]')
        return ()

    def pairs(self, key: str) -> dict[str, str]:
        """Return a table of plain values, each as text."""
        return {name: as_text(value) for name, value in self.table(key).items()}

    def table(self, key: str) -> dict[str, Any]:
        value = self._values.get(key, {})
        if isinstance(value, dict):
            return value
        self.wrong(key, f'Write {key} = {{name = "value"}}')
        return {}

    def value(self, key: str, default: Any = None) -> Any:
        return self._values.get(key, default)


def _show(value: object) -> str:
    text = value if isinstance(value, str) else as_text(value)
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
