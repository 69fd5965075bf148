"""What a check says: findings, and what could not be tried; as words, JSON or JUnit XML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from xml.etree import ElementTree as ET

from sagemaker_byoc.images.findings import Finding, Severity

SCHEMA = 1
"""Of the JSON; it rises when a name goes or changes its meaning."""


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
    """What could not be tried, and why."""
    measured: Mapping[str, float | int | str | None] = field(default_factory=dict)

    def count(self, severity: Severity) -> int:
        """Findings that the configuration does not ignore."""
        return sum(
            finding.severity is severity and not finding.ignored for finding in self.findings
        )

    @property
    def exit_code(self) -> int:
        return 1 if self.count(Severity.ERROR) else 0


def as_text(report: Report) -> str:
    """One block a finding: what, where, why, fix."""
    lines: list[str] = []
    for finding in report.findings:
        lines.append(f"{finding.severity}[{finding.id}]: {finding.title}")
        lines.append(f"  what: {finding.what}")
        if finding.where:
            lines.append(f"  where: {finding.where}")
        if finding.ignored:
            lines += [f"  ignored: {finding.ignored}", ""]
            continue
        lines += [f"  why: {finding.why}", f"  fix: {finding.fix}", ""]
    lines += [f"not tried: {note}" for note in report.notes]
    errors, warnings = report.count(Severity.ERROR), report.count(Severity.WARNING)
    ignored = len(report.findings) - errors - warnings
    roles = " and ".join(report.roles) or "neither train nor serve"
    tail = f", {ignored} ignored" if ignored else ""
    lines.append(
        f"{report.image} ({roles}): {len(report.rules)} rules, {errors} error(s), "
        f"{warnings} warning(s){tail}"
    )
    return "\n".join(lines)


def as_json(report: Report) -> str:
    found = {**asdict(report), "schema": SCHEMA, "exit_code": report.exit_code}
    return json.dumps(found, indent=2)


def as_junit(report: Report) -> str:
    """One case a rule; several findings of one rule are one failure."""
    by_id: dict[str, list[Finding]] = {rule: [] for rule in report.rules}
    for finding in report.findings:
        by_id[finding.id].append(finding)
    failed = [found for found in by_id.values() if _fails(found)]
    suite = ET.Element(
        "testsuite",
        name=f"byoc check {report.image}",
        tests=str(len(by_id)),
        failures=str(len(failed)),
    )
    for rule, found in by_id.items():
        case = ET.SubElement(suite, "testcase", classname="byoc.check", name=rule)
        if found:
            _case(case, found)
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
