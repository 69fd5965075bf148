"""What a check finds: rules with stable ids, and findings that need no second look-up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

T = TypeVar("T")


class Severity(StrEnum):
    ERROR = "error"
    """SageMaker refuses the image, or a job or endpoint breaks; or a secret would be shipped."""
    WARNING = "warning"
    """It works, and some feature or some day it doesn't."""


@dataclass(frozen=True, slots=True)
class Found:
    """One occurrence: what it is here, where, and the fix where it is not the rule's own."""

    what: str
    where: str = ""
    fix: str = ""
    subject: str = ""
    """What it is about (a variable, a file), to ignore this one alone; `where` if empty."""


@dataclass(frozen=True, slots=True)
class Rule(Generic[T]):
    """`check` looks at parsed data and at nothing else."""

    id: str
    severity: Severity
    title: str
    why: str
    fix: str
    check: Callable[[T], Iterable[Found]]


@dataclass(frozen=True, slots=True)
class Finding:
    id: str
    severity: Severity
    title: str
    what: str
    where: str
    why: str
    fix: str
    ignored: str = ""
    """The reason that the configuration gives for ignoring it."""
    subject: str = ""
    """What it is about, for the key that ignores this one alone."""

    @property
    def key(self) -> str:
        """What ignores this one alone, as the configuration has it: SEC001:PAD_TOKEN."""
        return f"{self.id}:{self.subject}" if self.subject else self.id


def apply(rules: Sequence[Rule[T]], subject: T, ignored: Mapping[str, str]) -> Iterator[Finding]:
    """Yield all that the rules find, in their order."""
    for rule in rules:
        for found in rule.check(subject):
            about = found.subject or found.where
            yield Finding(
                id=rule.id,
                severity=rule.severity,
                title=rule.title,
                what=found.what,
                where=found.where,
                why=rule.why,
                fix=found.fix or rule.fix,
                ignored=reason(ignored, rule.id, about),
                subject=about,
            )


def reason(ignored: Mapping[str, str], rule: str, subject: str) -> str:
    """Return why a finding is ignored: a key is `ID`, or `ID:SUBJECT` with `*` for any text."""
    for key, text in ignored.items():
        if rule_of(key) != rule:
            continue
        _, colon, pattern = key.partition(":")
        if not colon or subject == pattern or fnmatchcase(subject, pattern):
            return text
    return ""


def rule_of(key: str) -> str:
    """Return the id of the rule that a key of the ignored findings names."""
    return key.partition(":")[0]
