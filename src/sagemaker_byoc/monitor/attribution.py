"""Drift of feature attributions that something else computed: what mattered then, and now.

Files are Clarify's analysis.json; what is compared is its global SHAP values, label by label.
Source: developer guide, clarify-model-monitor-feature-attribution-drift and
clarify-model-monitor-model-attribution-drift-violations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.monitor import page
from sagemaker_byoc.monitor.data.checks import FILE as VIOLATIONS
from sagemaker_byoc.monitor.data.columns import shown
from sagemaker_byoc.monitor.data.constraints import FILE as CONSTRAINTS
from sagemaker_byoc.monitor.explanation import FILE as EXPLANATION
from sagemaker_byoc.monitor.explanation import VERSION, about_words, count
from sagemaker_byoc.monitor.inputs.streams import DataError
from sagemaker_byoc.monitor.places import Places, json_bytes

THRESHOLD = 0.9
"""Below this NDCG, AWS raises an alert."""
KEY = "explanations"

Shares = dict[str, dict[str, float]]
"""Label → feature → attribution."""


def ndcg(before: Mapping[str, float], now: Mapping[str, float]) -> float:
    """Return 1 if both order the features alike, else less. Raise DataError for other features."""
    if before.keys() != now.keys() or not before:
        apart = sorted(before.keys() ^ now.keys())
        raise DataError(
            f"attributions of different features: {', '.join(apart[:10]) or 'there are none'}",
            hint="Compute both for the same columns",
        )
    size = {name: abs(value) for name, value in before.items()}
    ideal = _gain(size, sorted(size, key=size.__getitem__, reverse=True))
    order = sorted(now, key=lambda name: abs(now[name]), reverse=True)
    return _gain(size, order) / ideal if ideal else 1.0


def _reason(before: Mapping[str, float], now: Mapping[str, float]) -> str:
    """Return why the order of two attributions says nothing; empty if it does."""
    if before.keys() != now.keys():
        return ""  # `ndcg` refuses them
    if len(before) == 1:
        return "there is one feature, whose place can't change"
    if not any(before.values()):
        return "every attribution of the baseline is 0"
    return "" if any(now.values()) else "every attribution is 0 now"


def _gain(size: Mapping[str, float], order: list[str]) -> float:
    return sum(size[name] / math.log2(place + 2) for place, name in enumerate(order))


def parse(document: Mapping[str, Any], where: str) -> Shares:
    """Return the SHAP values in an analysis.json. Raise DataError if it has none."""
    found: Shares = {}
    try:
        for labels in document[KEY].values():
            for label, each in labels.items():
                shares = each.get("global_shap_values") if isinstance(each, dict) else None
                if shares is not None:
                    found[label] = {str(name): float(value) for name, value in shares.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{where} is not an analysis.json: {type(error).__name__} {error}",
            hint='Write {"explanations": {"kernel_shap": {"label0": {"global_shap_values": {…}}}}}',
        ) from error
    if not found or not all(math.isfinite(x) for each in found.values() for x in each.values()):
        raise DataError(
            f"{where} has no finite global_shap_values", hint="Compute attributions first"
        )
    return found


def make_baseline(places: Places, document: Mapping[str, Any], where: str, output: str) -> Shares:
    found = parse(document, where)
    places.write(output, {CONSTRAINTS: json_bytes({"version": "1.0", KEY: document[KEY]})})
    return found


def run(
    places: Places,
    document: Mapping[str, Any],
    baseline: Mapping[str, Any],
    output: str,
    subject: Mapping[str, Json],
) -> dict[str, Json]:
    """Write constraint_violations.json, explanation.json, report.html; return the explanation."""
    before, now = parse(baseline, "the baseline"), parse(document, "analysis.json")
    if before.keys() != now.keys():
        raise DataError(
            f"the baseline explains {', '.join(before)}, this file {', '.join(now)}",
            hint="Compute both for the same labels",
        )
    left_out = {label: reason for label in before if (reason := _reason(before[label], now[label]))}
    scores = {label: ndcg(before[label], now[label]) for label in before if label not in left_out}
    violations: list[Json] = [
        {
            "label": label,
            "metric_name": "shap",
            "constraint_check_type": "feature_attribution_drift_check",
            "description": f"Feature attribution drift {score} exceeds threshold {THRESHOLD}",
        }
        for label, score in scores.items()
        if score < THRESHOLD
    ]
    why: dict[str, Json] = {
        "version": VERSION,
        "kind": "feature_attribution",
        "about": {**subject},
        "checks": len(scores),
        "not_compared": {**left_out},
        "violations": violations,
        "labels": [
            {"label": label, "ndcg": score, "before": {**before[label]}, "now": {**now[label]}}
            for label, score in scores.items()
        ],
    }
    fired = len(violations)
    verdict = f"drift in {fired} of {count(len(scores), 'label')}"
    if not fired:
        verdict = f"no violation in {count(len(scores), 'label')}"
    verdict += f"; {len(left_out):,} not compared" if left_out else ""
    places.write(
        output,
        {
            VIOLATIONS: json_bytes({"version": "1.0", "violations": violations}),
            EXPLANATION: json_bytes(why),
            page.FILE: page.attribution(why, verdict, _label_words(why)),
        },
    )
    return why


def words(why: Mapping[str, Any]) -> list[str]:
    left_out = why.get("not_compared", {}).items()
    told = [f"not compared: {label}: {reason}" for label, reason in left_out]
    return about_words(why["about"]) + told + _label_words(why)


def _label_words(why: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for each in why["labels"]:
        before, now = each["before"], each["now"]
        verdict = "drifted" if each["ndcg"] < THRESHOLD else "no drift"
        lines.append(f"{each['label']}: NDCG {each['ndcg']:.4f}, threshold {THRESHOLD}: {verdict}")
        place = {name: number for number, name in enumerate(_order(now), start=1)}
        lines += [
            f"  {name}: {number}. → {place[name]}. ({shown(before[name])} → {shown(now[name])})"
            for number, name in enumerate(_order(before)[:20], start=1)
        ]
    return lines


def _order(shares: Mapping[str, float]) -> list[str]:
    return sorted(shares, key=lambda name: abs(shares[name]), reverse=True)
