"""What of a column is compared, and that what is not compared is said, with its reason."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.unit.monitor.cases import Case, captured, csv_text, people

from sagemaker_byoc.monitor.data.checks import forecast
from sagemaker_byoc.monitor.data.columns import Column, Kind, shown
from sagemaker_byoc.monitor.data.drift import Of
from sagemaker_byoc.monitor.explanation import listed
from sagemaker_byoc.monitor.inputs.layout import Outputs


def normal(count, mean=0.0, seed=0):
    return np.random.default_rng(seed).normal(mean, 1, count).round(4).tolist()


def one_column(folder, cells):
    return Case(folder, ["x"], [[cell] for cell in cells], outputs=Outputs.NONE)


def run(case, cells):
    return case.run(captured([[cell] for cell in cells]), outputs=Outputs.NONE)


@pytest.mark.parametrize("marker", ["nan", "N/A", "None", "true", "?", "<1"])
def test_one_cell_of_text_does_not_hide_the_drift_of_numbers(tmp_path, marker):
    """The type is String as with Deequ; three deviations are a violation all the same."""
    case = one_column(tmp_path, [marker, *normal(600)])
    document = json.loads((tmp_path / "baseline" / "constraints.json").read_text())
    assert document["features"] == [{"name": "x", "inferred_type": "String", "completeness": 1.0}]
    same = run(case, [marker, *normal(500, seed=1)])
    assert same.findings.violations == []
    assert same.explanation["not_compared"] == {}
    moved = run(case, [marker, *normal(500, 3.0, seed=1)])
    assert [each.check for each in moved.findings.violations] == ["baseline_drift_check"]
    drift = moved.findings.drifts["x"]
    assert (drift.of, drift.baseline_rows, drift.rows) == (Of.NUMBERS, 600, 500)
    assert moved.explanation["power"]


def test_a_flood_of_nan_among_numbers(tmp_path):
    case = one_column(tmp_path, ["nan", *normal(600)])
    found = run(case, ["nan"] * 300 + normal(300, seed=1))
    assert [each.check for each in found.findings.violations] == ["baseline_drift_check"]
    assert found.findings.drifts["x"].of is Of.NUMBER_SHARE
    assert "'nan'" in (tmp_path / "out" / "report.html").read_text().replace("&#39;", "'")


def test_codes_stay_categories(tmp_path):
    """A few whole numbers that come again and again, and a letter: a domain, as AWS suggests."""
    case = one_column(tmp_path, ["1", "2", "3", "X"] * 100)
    document = json.loads((tmp_path / "baseline" / "constraints.json").read_text())
    assert sorted(document["features"][0]["string_constraints"]["domains"]) == ["1", "2", "3", "X"]
    found = run(case, ["1", "2", "3", "4"] * 100).findings
    assert found.violations[0].check == "categorical_values_check"
    assert found.drifts["x"].of is Of.CATEGORIES


def test_numbers_of_the_baseline_file_survive_the_round_trip(tmp_path):
    """A column of text with numbers has both sections in statistics.json."""
    one_column(tmp_path, ["nan", *normal(600)])
    (feature,) = json.loads((tmp_path / "baseline" / "statistics.json").read_text())["features"]
    assert feature["inferred_type"] == "String"
    assert feature["string_statistics"]["common"] == {"num_present": 601, "num_missing": 0}
    assert feature["numerical_statistics"]["common"] == {"num_present": 600, "num_missing": 1}


def test_values_that_the_baseline_lacks(tmp_path):
    """Many categories, all of them new: the share of each says nothing, all together do."""
    days = [f"2026-01-{day:02}T{hour:02}" for day in range(1, 29) for hour in range(5)]
    case = one_column(tmp_path, days * 5)
    assert run(case, days * 4).findings.violations == []
    found = run(case, [day.replace("-01-", "-11-") for day in days * 4]).findings
    assert [each.check for each in found.violations] == ["baseline_drift_check"]
    assert found.drifts["x"].of is Of.UNSEEN


def test_new_values_that_were_to_be_expected(tmp_path):
    """Values that mostly came once are mostly new again: no alarm, and no claim either."""
    case = one_column(tmp_path, [f"user-{number}" for number in range(500)])
    found = run(case, [f"user-{number}" for number in range(500, 900)])
    assert found.findings.violations == []
    assert "came once" in found.explanation["not_compared"]["x"]


def test_lengths_of_texts_that_are_too_many(tmp_path):
    case = one_column(tmp_path, [f"note {number:06}" for number in range(1500)])
    quiet = run(case, [f"note {number:06}" for number in range(5000, 6500)])
    assert quiet.findings.violations == []
    assert quiet.findings.drifts["x"].of is Of.LENGTHS
    assert "only lengths were compared" in quiet.explanation["not_compared"]["x"]
    longer = run(case, [f"a longer note {number:06}" for number in range(1500)])
    assert [each.check for each in longer.findings.violations] == ["baseline_drift_check"]


def test_new_values_among_too_many_to_count(tmp_path):
    """Two thousand products, each sold some times: other products are drift, the same are not."""
    random = np.random.default_rng(0)

    def sold(catalog, count=8000):
        return [f"{catalog}-{each:05}" for each in random.integers(0, 2000, count)]

    case = one_column(tmp_path, sold("old"))
    quiet = run(case, sold("old"))
    assert quiet.findings.violations == []
    assert "only lengths and new values" in quiet.explanation["not_compared"]["x"]
    mixed = run(case, [*sold("old", 3000), *sold("new", 1000)])
    assert [each.check for each in mixed.findings.violations] == ["baseline_drift_check"]
    drift = mixed.findings.drifts["x"]
    assert drift.of is Of.UNSEEN
    assert drift.share == pytest.approx(0.25, abs=0.05)
    assert 2000 < drift.baseline_rows < 8000
    few = run(case, sold("new", 40))
    assert [each.check for each in few.findings.violations] == ["baseline_drift_check"]


def without_statistics(case):
    (case.folder / "baseline" / "statistics.json").unlink()


def without_counts(case):
    """As AWS writes a column with more than a thousand values."""
    path = case.folder / "baseline" / "statistics.json"
    document = json.loads(path.read_text())
    document["features"][2]["string_statistics"].pop("distribution")
    path.write_text(json.dumps(document))


def drift_config(**members):
    def change(case):
        case.edit(
            lambda found: found["monitoring_config"]["distribution_constraints"].update(members)
        )

    return change


def disabled(case):
    case.edit(lambda found: found["monitoring_config"].update(evaluate_constraints="Disabled"))


@pytest.mark.parametrize(
    ("change", "names", "reason"),
    [
        (without_statistics, "age income plan", "the baseline has no statistics of it"),
        (without_counts, "plan", "the baseline counts no values"),
        (drift_config(perform_comparison="Disabled"), "age income plan", "perform_comparison is"),
        (drift_config(comparison_threshold=1), "age income", "no distance is above the threshold"),
        (disabled, "age income plan", "evaluate_constraints is Disabled"),
    ],
)
def test_a_baseline_that_compares_less(tmp_path, change, names, reason):
    case = Case(tmp_path, ["age", "income", "plan"], people(600))
    change(case)
    found = case.run(captured(people(500, seed=1))).explanation
    assert sorted(found["not_compared"]) == sorted(names.split())
    assert all(reason in each for each in found["not_compared"].values())


@pytest.mark.parametrize(
    ("rows", "names", "reason"),
    [
        (people(500, seed=1)[:3], "age income plan", "too few values (600 in the baseline, 3 now)"),
        ([["", 1.5, "pro"]] * 300, "age", "every cell is empty now"),
        ([["x", 1.5, "pro"]] * 300, "age", "none of 300 values is a number now"),
    ],
)
def test_a_run_that_can_compare_less(tmp_path, rows, names, reason):
    case = Case(tmp_path, ["age", "income", "plan"], people(600))
    found = case.run(captured(rows), outputs=Outputs.NONE).explanation
    assert sorted(found["not_compared"]) == sorted(names.split())
    assert all(reason in each for each in found["not_compared"].values())
    assert found["compared"] + len(found["not_compared"]) == found["columns"] == 3


def test_columns_of_one_side_only(tmp_path):
    case = Case(tmp_path, ["age", "income", "plan"], people(600))
    rows = [["age", "plan", "new"], *([age, plan, 1] for age, _, plan in people(500, seed=1))]
    (tmp_path / "live.csv").write_text(csv_text(rows))
    found = case.run_place(str(tmp_path / "live.csv")).explanation
    assert found["not_compared"] == {
        "income": "the column is missing in this run",
        "new": "the baseline has no such column",
    }
    assert (found["columns"], found["compared"]) == (4, 2)


def test_a_chi_squared_test_with_one_category(tmp_path):
    case = one_column(tmp_path, ["only"] * 300)
    drift_config(categorical_drift_method="ChiSquared")(case)
    found = run(case, ["only"] * 300).explanation
    assert found["not_compared"] == {"x": "fewer than two categories are left for a χ² test"}


def test_a_chi_squared_test_of_values_that_came_once(tmp_path):
    """Lengths are compared, shares are not: the reason is that of the test."""
    case = one_column(tmp_path, [f"user-{number}" for number in range(500)])
    drift_config(categorical_drift_method="ChiSquared")(case)
    found = run(case, [f"other-{number}" for number in range(500)])
    assert found.findings.drifts["x"].of is Of.LENGTHS
    assert "χ² test" in found.explanation["not_compared"]["x"]


def test_every_check_has_a_state(tmp_path):
    """Made, with what was held against which threshold; or not, with the reason."""
    case = Case(tmp_path, ["age", "income", "plan"], people(600))
    features = {
        each["name"]: each for each in case.run(captured(people(500))).explanation["features"]
    }
    states = {each["check"]: each for each in features["plan"]["checks"]}
    assert states["completeness_check"] == {
        "check": "completeness_check",
        "compared": True,
        "value": 1.0,
        "threshold": 1.0,
    }
    assert states["data_type_check"] == {
        "check": "data_type_check",
        "compared": False,
        "reason": "any value is text",
    }
    assert states["categorical_values_check"]["value"] == 1.0
    assert states["baseline_drift_check"]["compared"]


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (["nan", *map(str, normal(100))], "not a number: 1 of 101 values ('nan')"),
        ([f"id-{number}" for number in range(1001)], "more than 1,000 different values"),
        ([f"id-{number}" for number in range(100)], "most values came once"),
        (["", ""], "every cell is empty"),
        (["1", "2"], "too few values (2)"),
        (list(map(str, normal(100))), ""),
        (["a", "b"] * 50, ""),
        (["true", "false"] * 50, ""),
        (["1,5", "2,25"] * 50, "numbers in a spelling that counts as text ('1,5', '2,25')"),
        ([f".{number}" for number in range(10, 2000)], "numbers in a spelling that counts"),
        (["$3", "$1,200.50"] * 50, "numbers in a spelling"),
        (["7 %", "12%"] * 50, "numbers in a spelling"),
        (["2020-01-02", "2020-01-03"] * 50, ""),
        (["10:30", "A1"] * 50, ""),
    ],
)
def test_what_a_baseline_warns_of(cells, told):
    column = Column("x")
    column.add(cells)
    assert forecast(column).startswith(told)
    assert bool(forecast(column)) == bool(told)


def test_no_power_without_numbers(tmp_path):
    """The power is told of columns of numbers that were compared, and of no other."""
    case = one_column(tmp_path, ["basic", "pro"] * 300)
    found = run(case, ["basic", "pro"] * 200).explanation
    assert found["power"] == []
    assert "can see" not in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456789, "0.1235"),
        (1764432000.0, "1,764,432,000"),
        (12345.678, "12,346"),
        (1.5e300, "1.5e+300"),
        (float("nan"), "nan"),
        (None, "-"),
        (-3.0, "-3"),
    ],
)
def test_digits(value, text):
    assert shown(value) == text


def test_names_in_a_list():
    """In one line, of a length that has room, and not all of thousands."""
    assert listed(["a\n b", "x" * 90, "c", "d"], 3) == f"a b, {'x' * 60}…, c and 1 more"
    assert listed(["a"]) == "a"


def test_the_kind_of_a_mixed_column_is_that_of_the_baseline():
    """Numbers alone, where the baseline has one `nan` among them, are compared as numbers."""
    column = Column("x", kind=Kind.STRING, has_numbers=True)
    column.add(["1.5", "2", "true", "x"])
    assert (column.numbers, column.boolean, column.text) == (2, 1, 1)
    assert column.lengths.count == 2


def test_long_texts_that_begin_alike_are_different(tmp_path):
    """Prompts share their first sentences; AWS's files hold such values whole."""
    rows = [[f"{'x' * 400} {number % 3}", number] for number in range(300)]
    case = Case(tmp_path, ["prompt", "b"], rows)
    assert case.checks(captured(rows)) == []
    found = case.checks(captured([["x" * 400 + " new", number] for number in range(300)]))
    assert ("prompt", "categorical_values_check") in found
    values = [value for value, _ in rows[:3]]
    case.edit(lambda made: made["features"][0].update(string_constraints={"domains": values}))
    assert case.checks(captured(rows)) == []
