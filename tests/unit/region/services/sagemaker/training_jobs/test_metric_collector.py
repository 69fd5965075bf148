"""Metrics in the lines of a job's log."""

from __future__ import annotations

import pytest

from sagemaker_byoc.region.services.sagemaker.training_jobs import metric_collector


@pytest.mark.parametrize(
    ("text", "why"),
    [
        *((each, "not a finite number") for each in ("nan", "NaN", "inf", "-Infinity", "1e999")),
        ("x", "not a number"),
    ],
)
def test_what_is_not_a_finite_number_is_reported_and_not_kept(text, why):
    put = []
    collector = metric_collector.MetricCollector(
        metric_collector.compile_definitions({"loss": r"loss=(\S+)"}),
        lambda name, value: put.append((name, value)),
    )
    collector.see(f"loss={text}")
    assert collector.last == {}
    assert put == []
    (warning,) = collector.warnings()
    assert f"found {text!r}, which is {why}" in warning
    collector.see("loss=2.5")
    collector.see(f"loss={text}")
    assert collector.last["loss"].value == 2.5
    assert put == [("loss", 2.5)]
