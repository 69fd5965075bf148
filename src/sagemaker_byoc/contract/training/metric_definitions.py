"""Metric lines and MetricDefinitions: how a metric is printed, and the regex that finds it.

A line is `name=value; name=value;` with any text before it. SageMaker searches each definition's
regex in every log line and keeps group 1 as a float (developer guide: training-metrics).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sagemaker_byoc.contract import facts
from sagemaker_byoc.contract.errors import ContractError

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|-?inf"
NAME = r"[A-Za-z_][A-Za-z0-9_.:/\-]*"
PAIR = re.compile(rf"(?:^|\s)({NAME})=({NUMBER});")


def format_line(values: Mapping[str, float]) -> str:
    """Return one log line for `values`, in their order, with the nine digits that a float32 has."""
    return " ".join([f"{checked_name(name)}={value:.9g};" for name, value in values.items()])


def parse_line(line: str) -> dict[str, float]:
    """Return every `name=value;` pair of a log line."""
    return {name: float(value) for name, value in PAIR.findall(line)}


def definition(name: str) -> dict[str, str]:
    """Return the MetricDefinition that finds `name` in lines made by `format_line`."""
    regex = rf"(?:^|\s){re.escape(name)}=({NUMBER});"
    if len(regex) > facts.METRIC_REGEX.value or len(name) > facts.METRIC_NAME.value:
        raise ContractError(
            where=f"metric {name!r}",
            what=f"is longer than SageMaker's limit of {facts.METRIC_REGEX.value} for a regex",
            hint="Use a shorter name",
        )
    return {"Name": name, "Regex": regex}


@functools.lru_cache(1024)
def checked_name(name: object) -> str:
    """Return the name of a metric; raise ContractError for one that no line can hold."""
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise ContractError(
            where=f"metric {name!r}",
            what="is not a legal metric name",
            hint=f"Use letters, digits and . : / - _ as in {NAME}",
        )
    return name


GREEDY = re.compile(r"\((?!\?)[^()]*\.[*+](?!\?)[^()]*\)")


@dataclass(frozen=True, slots=True)
class Problem:
    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


def lint(definitions: Sequence[Mapping[str, str]], lines: Iterable[str]) -> list[Problem]:
    """Return all that is wrong with `definitions`, by themselves and on these lines."""
    problems: list[Problem] = []
    if len(definitions) > facts.METRIC_DEFINITIONS.value:
        limit = facts.METRIC_DEFINITIONS.value
        problems.append(Problem("definitions", f"{len(definitions)} of them, the limit is {limit}"))
    kept = [line.rstrip("\n") for line in lines]
    for definition in definitions:
        name, regex = definition.get("Name", ""), definition.get("Regex", "")
        problems += [Problem(name or "(no name)", what) for what in _about(name, regex, kept)]
    return problems


def values(definition: Mapping[str, str], lines: Iterable[str]) -> list[float]:
    """Return what SageMaker takes from the lines: one value per line, of the first match in it."""
    pattern = re.compile(definition["Regex"])
    found = []
    for line in lines:
        match = pattern.search(line)
        number = _number(match.group(1)) if match and pattern.groups else None
        if number is not None:
            found.append(number)
    return found


def _about(name: str, regex: str, lines: list[str]) -> list[str]:
    if not 1 <= len(name) <= facts.METRIC_NAME.value:
        return [f"its name has {len(name)} characters, 1 to {facts.METRIC_NAME.value} are allowed"]
    if not 1 <= len(regex) <= facts.METRIC_REGEX.value:
        return [
            f"its regex has {len(regex)} characters, 1 to {facts.METRIC_REGEX.value} are allowed"
        ]
    try:
        pattern = re.compile(regex)
    except re.error as error:
        return [f"its regex is not valid: {error}"]
    if not pattern.groups:
        return ["its regex has no group: put the number in parentheses"]
    problems = []
    if GREEDY.search(regex):
        problems.append("its group is greedy: write .*? instead of .*, or say what a number is")
    return problems + _on_lines(pattern, lines)


def _on_lines(pattern: re.Pattern[str], lines: list[str]) -> list[str]:
    found = [(line, list(pattern.finditer(line))) for line in lines]
    matching = [(line, matches) for line, matches in found if matches]
    if lines and not matching:
        return [f"it matches none of {len(lines)} lines"]
    problems = []
    for line, matches in matching:
        shown = line if len(line) < 80 else line[:77] + "..."
        if _number(matches[0].group(1)) is None:
            problems.append(f"it takes {matches[0].group(1)!r} for a number in {shown!r}")
        elif len(matches) > 1:
            problems.append(f"it matches {len(matches)} times in {shown!r}: the first one counts")
        elif "\r" in line[: matches[0].start()]:
            problems.append(f"it matches behind a \\r, which SageMaker may cut, in {shown!r}")
        if problems:
            break
    return problems


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if not math.isinf(value) or "inf" in (text or "").lower() else None
