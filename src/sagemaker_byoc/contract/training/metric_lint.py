"""Whether metric definitions find in real lines what they are meant to find.

SageMaker searches each definition's regex in every line of the log and takes group 1 as a number
(developer guide: training-metrics); what doesn't match is silently nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sagemaker_byoc.contract import limits

GREEDY = re.compile(r"\((?!\?)[^()]*\.[*+](?!\?)[^()]*\)")


@dataclass(frozen=True, slots=True)
class Problem:
    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


def lint(definitions: Sequence[Mapping[str, str]], lines: Iterable[str]) -> list[Problem]:
    """All that is wrong with `definitions` by themselves, and on these lines."""
    problems: list[Problem] = []
    if len(definitions) > limits.METRIC_DEFINITIONS.value:
        limit = limits.METRIC_DEFINITIONS.value
        problems.append(Problem("definitions", f"{len(definitions)} of them, the limit is {limit}"))
    kept = [line.rstrip("\n") for line in lines]
    for definition in definitions:
        name, regex = definition.get("Name", ""), definition.get("Regex", "")
        problems += [Problem(name or "(no name)", what) for what in _about(name, regex, kept)]
    return problems


def values(definition: Mapping[str, str], lines: Iterable[str]) -> list[float]:
    """What SageMaker takes from the lines: one value a line, of the first match in it."""
    pattern = re.compile(definition["Regex"])
    found = []
    for line in lines:
        match = pattern.search(line)
        number = _number(match.group(1)) if match and pattern.groups else None
        if number is not None:
            found.append(number)
    return found


def _about(name: str, regex: str, lines: list[str]) -> list[str]:
    if not 1 <= len(name) <= limits.METRIC_NAME.value:
        return [f"its name has {len(name)} characters, 1 to {limits.METRIC_NAME.value} are allowed"]
    if not 1 <= len(regex) <= limits.METRIC_REGEX.value:
        return [
            f"its regex has {len(regex)} characters, 1 to {limits.METRIC_REGEX.value} are allowed"
        ]
    try:
        pattern = re.compile(regex)
    except re.error as error:
        return [f"its regex is none: {error}"]
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
