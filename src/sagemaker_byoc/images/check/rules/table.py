"""All rules, in the order of the page that documents them."""

from __future__ import annotations

from dataclasses import dataclass

from sagemaker_byoc.images.check.checked_image import Subject
from sagemaker_byoc.images.check.findings import Rule, Severity
from sagemaker_byoc.images.check.rules import cuda, entry, secrets, serving, static, training

STATIC: tuple[Rule[Subject], ...] = (
    *sorted((*static.RULES, *entry.RULES), key=lambda rule: rule.id),
    *cuda.RULES,
    *secrets.RULES,
)
TRAINING = training.RULES
SERVING = tuple(sorted(serving.RULES, key=lambda rule: rule.id))


@dataclass(frozen=True, slots=True)
class Row:
    """What the documentation says of a rule."""

    id: str
    severity: Severity
    title: str
    why: str
    fix: str


def rows() -> list[Row]:
    found = [Row(r.id, r.severity, r.title, r.why, r.fix) for r in STATIC]
    found += [Row(r.id, r.severity, r.title, r.why, r.fix) for r in TRAINING]
    found += [Row(r.id, r.severity, r.title, r.why, r.fix) for r in SERVING]
    return found
