"""A baseline, traffic, and which violation comes of what was done to it."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from tests.unit.monitor.cases import Case, captured, csv_text, people

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.monitor.inputs.layout import Outputs
from sagemaker_byoc.monitor.inputs.streams import DataError, EmptyError, Window

NAMES = ["age", "income", "plan"]


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path, NAMES, people(600))


def test_the_same_distribution(case):
    assert case.checks(captured(people(500, seed=1))) == []


def test_a_baseline_does_not_violate_itself(case):
    outcome = case.run(captured(people(600)))
    assert outcome.findings.violations == []
    assert all(each.gap == 0 for each in outcome.findings.drifts.values())


def test_files(case):
    case.run(captured(people(500, seed=1)))
    out = case.folder / "out"
    assert sorted(each.name for each in out.iterdir()) == [
        "constraint_violations.json",
        "constraints.json",
        "explanation.json",
        "report.html",
        "statistics.json",
    ]
    assert json.loads((out / "constraint_violations.json").read_text()) == {"violations": []}
    statistics = json.loads((out / "statistics.json").read_text())
    age, _, plan = statistics["features"]
    assert statistics["dataset"] == {"item_count": 500}
    assert age["inferred_type"] == "Integral"
    assert age["numerical_statistics"]["common"] == {"num_present": 500, "num_missing": 0}
    kll = age["numerical_statistics"]["distribution"]["kll"]
    assert sum(each["count"] for each in kll["buckets"]) == 500
    assert len(kll["buckets"]) == 10
    assert kll["sketch"]["parameters"] == {"c": 0.64, "k": 2048.0}
    assert sum(map(len, kll["sketch"]["data"])) == 500
    assert plan["string_statistics"]["distinct_count"] == 2.0
    buckets = plan["string_statistics"]["distribution"]["categorical"]["buckets"]
    assert {each["value"] for each in buckets} == {"basic", "pro"}


def test_constraints_as_aws_writes_them(case):
    document = json.loads((case.folder / "baseline" / "constraints.json").read_text())
    assert document["version"] == 0.0
    assert document["features"][0] == {
        "name": "age",
        "inferred_type": "Integral",
        "completeness": 1.0,
        "num_constraints": {"is_non_negative": True},
    }
    assert sorted(document["features"][2]["string_constraints"]["domains"]) == ["basic", "pro"]
    assert document["monitoring_config"]["datatype_check_threshold"] == 1.0
    drift = document["monitoring_config"]["distribution_constraints"]
    assert drift["comparison_method"] == "Robust"
    assert drift["perform_comparison"] == "Enabled"


def test_drift(case):
    rows = [[age, income + 700, plan] for age, income, plan in people(500, seed=1)]
    outcome = case.run(captured(rows))
    (found,) = outcome.findings.violations
    drift = outcome.findings.drifts["income"]
    assert (found.feature, found.check) == ("income", "baseline_drift_check")
    assert found.description == (
        f"Baseline drift distance: {drift.distance!r} exceeds threshold: 0.1"
    )
    assert drift.gap - drift.allowance == pytest.approx(drift.distance)


def test_type(case):
    rows = people(500, seed=1)
    rows[7][0] = "old"
    (found,) = case.run(captured(rows)).findings.violations
    assert (found.feature, found.check) == ("age", "data_type_check")
    assert found.description == (
        "Data type match requirement is not met. Expected data type: Integral, "
        "Expected match: 100.0%. Observed: Only 99.8% of data is Integral."
    )


def test_a_whole_number_is_a_fraction_too(case):
    rows = people(500, seed=1)
    rows[7][1] = 3000
    assert case.checks(captured(rows)) == []


@pytest.mark.parametrize("ages", ["6.0", "6.00", "6e0", " 6.0 "])
def test_a_fraction_may_be_a_whole_number(case, ages):
    """In what it is worth, and not in how it is spelled; 6.5 is none."""
    rows = people(500, seed=1)
    rows[7][0] = ages
    assert case.checks(captured(rows)) == []
    rows[7][0] = "6.5"
    assert case.checks(captured(rows)) == [("age", "data_type_check")]


def test_missing_values(case):
    rows = people(500, seed=1)
    rows[7][0] = rows[8][0] = ""
    (found,) = case.run(captured(rows)).findings.violations
    assert (found.feature, found.check) == ("age", "completeness_check")
    assert found.description == "Value: 0.996 does not meet the constraint requirement! "


def test_new_category(case):
    rows = people(500, seed=1)
    rows[7][2] = "gold"
    outcome = case.run(captured(rows))
    (found,) = outcome.findings.violations
    assert (found.feature, found.check) == ("plan", "categorical_values_check")
    assert outcome.findings.notes["plan"] == ["new: 'gold'"]


def test_category_drift(case):
    rows = [[age, income, "pro"] for age, income, _ in people(500, seed=1)]
    assert case.checks(captured(rows)) == [("plan", "baseline_drift_check")]


def test_chi_squared(case):
    def change(document):
        drift = document["monitoring_config"]["distribution_constraints"]
        drift["categorical_drift_method"] = "ChiSquared"
        drift["categorical_comparison_threshold"] = 0.001

    case.edit(change)
    assert case.checks(captured(people(500, seed=1))) == []
    rows = [[age, income, "pro"] for age, income, _ in people(500, seed=1)]
    outcome = case.run(captured(rows))
    assert [each.check for each in outcome.findings.violations] == ["baseline_drift_check"]
    assert "p-value" in outcome.findings.violations[0].description


@pytest.mark.parametrize(("change", "check"), [(-1, "missing"), (1, "extra")])
def test_another_number_of_columns(case, change, check):
    rows = [[*row, 1][: 3 + change] for row in people(500, seed=1)]
    outcome = case.run(captured(rows), outputs=Outputs.NONE)
    (found,) = outcome.findings.violations
    assert found.check == f"{check}_column_check"
    assert found.description == (
        f"There are {check} columns in current dataset. Number of columns in current "
        f"dataset: {3 + change}, Number of columns in baseline constraints: 3"
    )


@pytest.mark.parametrize("outputs", [Outputs.START, Outputs.END])
def test_outputs_among_the_columns(tmp_path, outputs):
    """As the SDK's baseline datasets have them; the run finds that in the baseline."""
    is_first = outputs is Outputs.START
    rows = [[0.5, age] if is_first else [age, 0.5] for age, _, _ in people(300)]
    names = ["score", "age"] if is_first else ["age", "score"]
    case = Case(tmp_path, names, rows, outputs=outputs)
    outcome = case.run(captured([[age] for age, _, _ in people(300, seed=1)]))
    assert outcome.findings.violations == []
    assert outcome.profile.columns["score"].moments.mean == 0.5


@pytest.mark.parametrize("key", ["monitoringConfigOverrides", "monitoring_config_overrides"])
def test_overrides_of_one_feature(case, key):
    case.edit(lambda found: found["features"][0].update({key: {"datatype_check_threshold": 0.9}}))
    rows = people(500, seed=1)
    rows[7][0] = "old"
    assert case.checks(captured(rows)) == []


def test_switched_off(case):
    case.edit(lambda found: found["monitoring_config"].update(evaluate_constraints="Disabled"))
    assert case.checks(captured([["x", "y", "z"]] * 50)) == []


def test_only_constraints(case):
    (case.folder / "baseline" / "statistics.json").unlink()
    rows = [[age, income + 9000, plan] for age, income, plan in people(500, seed=1)]
    assert case.checks(captured(rows)) == []


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"datatype_check_threshold": 7}, "datatype_check_threshold is 7"),
        ({"evaluate_constraints": "yes"}, "not Enabled or Disabled"),
        ({"distribution_constraints": {"comparison_method": "Fancy"}}, "Fancy"),
    ],
)
def test_constraints_that_are_none(case, config, told):
    case.edit(lambda found: found["monitoring_config"].update(config))
    with pytest.raises(DataError, match=told):
        case.run(captured(people(5)))


@pytest.mark.parametrize("completeness", [float("nan"), 2, -1, "all", 10**400])
def test_a_completeness_that_is_none(case, completeness):
    case.edit(lambda found: found["features"][0].update(completeness=completeness))
    with pytest.raises(DataError, match="completeness is"):
        case.run(captured(people(5)))


def test_no_baseline(case, tmp_path):
    case.baseline = str(tmp_path / "nowhere")
    with pytest.raises(RequestError, match=r"no constraints\.json"):
        case.run(captured(people(5)))


HOUR = Window(datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 2, tzinfo=UTC))


def test_one_damaged_line_in_a_quiet_window(case):
    """Its time can't be told: the hour is a quiet one."""
    with pytest.raises(EmptyError, match="and 500 of another time"):
        case.run(captured(people(500)) + b"{\n", window=HOUR)


def test_a_window_over_rows_without_a_time_is_said(case):
    text = csv_text([NAMES, *people(500)]).encode()
    notices = case.run(text, name="live.csv", window=HOUR).unread.notices
    assert notices == {"files were read whole, whatever the time: their rows have none": 1}
