"""A check as data: the image, rules with stable ids, findings, and the report in three forms."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Generic, TypeVar
from xml.etree import ElementTree as ET

from sagemaker_byoc.images.check.rules.wrappers import shell_command
from sagemaker_byoc.images.model import Image

T = TypeVar("T")

TRAIN = "train"
SERVE = "serve"
ROLES = (TRAIN, SERVE)
OUR_CONTRACT = "sagemaker-byoc.contract"
_CONTRACTS = {"training": TRAIN, "hosting": SERVE}
_INITS = frozenset({"tini", "dumb-init", "docker-init"})
_PORT = "8080/tcp"
_ENDS_IN_EXEC = re.compile(r"^\s*exec\s|(?:;|&&?|\|\||\n)\s*exec\s(?:[^;&|\n]|>&|&>)*$")


@dataclass(frozen=True, slots=True)
class Subject:
    image: Image
    roles: frozenset[str]

    @property
    def shell_form(self) -> str:
        """The command line of an ENTRYPOINT that drops the argument in a shell, or nothing.

        A line with $0 or "$@" passes it on; one that ends in `exec` leaves no shell behind, and an
        image for one role alone can do without the argument.
        """
        command = shell_command(self.image.entry)
        if command is None or command.uses_arguments:
            return ""
        replaced = _ENDS_IN_EXEC.search(command.line) is not None and len(self.roles) < 2
        return "" if replaced else command.line

    @property
    def init(self) -> str:
        """The name of an init that would start the argument itself, or nothing."""
        words = [word for word in self.image.entry if word != "--" and not word.startswith("-")]
        if len(words) == 1 and posixpath.basename(words[0]) in _INITS:
            return words[0]
        return ""


def roles_of(image: Image) -> frozenset[str]:
    """Return what an image seems to be for, if it does not say so."""
    ours = _CONTRACTS.get(image.config.labels.get(OUR_CONTRACT, ""))
    if ours:
        return frozenset({ours})
    found = {role for role in ROLES if image.on_path(role) is not None}
    found |= {role for role in ROLES if role in image.config.command}
    if _PORT in image.config.ports:
        found.add(SERVE)
    return frozenset(found)


class Severity(StrEnum):
    ERROR = "error"
    """SageMaker refuses the image, or a job or endpoint breaks; or a secret would be shipped."""
    WARNING = "warning"
    """It works, but may fail for some feature or at some time."""


@dataclass(frozen=True, slots=True)
class Found:
    """One occurrence: what, where, and the fix if it is not the rule's."""

    what: str
    where: str = ""
    fix: str = ""
    subject: str = ""
    """What it is about (a variable, a file), to ignore this one alone; `where` if empty."""


@dataclass(frozen=True, slots=True)
class Rule(Generic[T]):
    """A rule; `check` looks at parsed data alone."""

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
        """The key that ignores this one alone in the configuration: SEC001:PAD_TOKEN."""
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


UNJUDGED = 4
"""Exit code if nothing wrong was found, and something could not be judged."""
SCHEMA = 1
"""Version of the JSON; it rises when a name is removed or changes its meaning."""


@dataclass(frozen=True, slots=True)
class Report:
    image: str
    source: str
    digest: str
    roles: tuple[str, ...]
    findings: tuple[Finding, ...]
    rules: tuple[str, ...]
    """Ids of all that were applied."""
    notes: tuple[str, ...] = ()
    """What was not tried, and why."""
    unjudged: tuple[str, ...] = ()
    """Trials that failed, and why: they say nothing about the image."""
    measured: Mapping[str, float | int | str | None] = field(default_factory=dict)

    def count(self, severity: Severity) -> int:
        """Count the findings that the configuration does not ignore."""
        return sum(
            finding.severity is severity and not finding.ignored for finding in self.findings
        )

    @property
    def exit_code(self) -> int:
        """An error that was found counts, whatever could not be judged besides."""
        if self.count(Severity.ERROR):
            return 1
        return UNJUDGED if self.unjudged else 0


def as_text(report: Report) -> str:
    """Return one block per finding, and the summary."""
    blocks = [f"{finding_as_text(finding)}\n" for finding in report.findings]
    return "\n".join([*blocks, summary_as_text(report)])


def finding_as_text(finding: Finding) -> str:
    """Return what, where, why, fix, and the line that would ignore it."""
    lines = [headline(finding), f"  what: {finding.what}"]
    if finding.where:
        lines.append(f"  where: {finding.where}")
    if finding.ignored:
        lines.append(f"  ignored: {finding.ignored}")
    else:
        lines += [f"  why: {finding.why}", f"  fix: {finding.fix}"]
        lines.append(
            f'  to ignore it: {json.dumps(finding.key, ensure_ascii=False)} = "your reason"'
        )
    return "\n".join(lines)


def headline(finding: Finding) -> str:
    return f"{finding.severity}[{finding.id}]: {finding.title}"


def summary_as_text(report: Report) -> str:
    """Return what was not tried or judged, and how much was found."""
    lines = [f"not tried: {note}" for note in report.notes]
    lines += [f"not judged: {sentence}" for sentence in report.unjudged]
    errors, warnings = report.count(Severity.ERROR), report.count(Severity.WARNING)
    ignored = len(report.findings) - errors - warnings
    roles = " and ".join(report.roles) or "neither train nor serve"
    tail = f", {ignored} ignored" if ignored else ""
    tail += f", {len(report.unjudged)} not judged" if report.unjudged else ""
    seconds = report.measured.get("seconds")
    tail += f", in {seconds:.0f} s" if isinstance(seconds, (int, float)) else ""
    lines.append(
        f"{report.image} ({roles}): {len(report.rules)} rules, {errors} error(s), "
        f"{warnings} warning(s){tail}"
    )
    return "\n".join(lines)


def as_json(report: Report) -> str:
    found = {**asdict(report), "schema": SCHEMA, "exit_code": report.exit_code}
    return json.dumps(found, indent=2)


def as_junit(report: Report) -> str:
    """Return JUnit XML: one case per rule; several findings of a rule are one failure."""
    by_id: dict[str, list[Finding]] = {rule: [] for rule in report.rules}
    for finding in report.findings:
        by_id[finding.id].append(finding)
    failed = [found for found in by_id.values() if _fails(found)]
    suite = ET.Element(
        "testsuite",
        name=f"byoc check {report.image}",
        tests=str(len(by_id) + len(report.unjudged)),
        failures=str(len(failed)),
        errors=str(len(report.unjudged)),
    )
    for rule, found in by_id.items():
        case = ET.SubElement(suite, "testcase", classname="byoc.check", name=rule)
        if found:
            _case(case, found)
    for sentence in report.unjudged:
        name, _, why = sentence.partition(": ")
        case = ET.SubElement(suite, "testcase", classname="byoc.check", name=name)
        ET.SubElement(case, "error", message=why)
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)


def _fails(found: Sequence[Finding]) -> bool:
    return any(one.severity is Severity.ERROR and not one.ignored for one in found)


def _case(case: ET.Element, found: Sequence[Finding]) -> None:
    lines = [
        f"{one.severity}: {one.what} ({one.where}). {one.why} fix: {one.fix}"
        + (f" ignored: {one.ignored}" if one.ignored else "")
        for one in found
    ]
    name = "failure" if _fails(found) else "system-out"
    entry = ET.SubElement(case, name)
    if name == "failure":
        entry.set("message", found[0].title)
    entry.text = "\n".join(lines)
