"""Files that others wrote, and files that nobody should have."""

from __future__ import annotations

import json

import pytest
from tests.unit.monitor.cases import Case, captured, people

from sagemaker_byoc.monitor.data import statistics
from sagemaker_byoc.monitor.data.columns import Column
from sagemaker_byoc.monitor.inputs.layout import Outputs
from sagemaker_byoc.monitor.inputs.streams import DataError

NAMES = ["age", "income", "plan"]


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path, NAMES, people(600))


def test_aws_own_sample_file_is_read(case):
    """tests/data/monitor/constraints.json of the SageMaker SDK: other spellings, older keys."""
    feature = {
        "name": "message",
        "inferred_type": "String",
        "completeness": 1.0,
        "string_constraints": {
            "domains": ["known"],
            "monitoring_config_overrides": {
                "evaluate_constraints": "Enabled",
                "emit_metrics": "Enabled",
            },
        },
    }
    config = {
        "evaluate_constraints": "Enabled",
        "emit_metrics": "Enabled",
        "distribution_constraints": {
            "enable_comparisons": True,
            "min_domain_mass": 1.0,
            "comparison_threshold": 1.0,
        },
    }
    document = {"version": 0.0, "features": [feature], "monitoring_config": config}
    (case.folder / "baseline" / "constraints.json").write_text(json.dumps(document))
    assert case.checks(captured([["known"]] * 5), outputs=Outputs.NONE) == []
    assert case.checks(captured([["other"]] * 5), outputs=Outputs.NONE) == [
        ("message", "categorical_values_check")
    ]


@pytest.mark.parametrize("spelling", ["True", "true"])
def test_booleans_of_a_file_by_pandas(case, spelling):
    """A domain in AWS's spelling, which is that of the training data; JSON has another one."""

    def change(document):
        document["features"][2]["string_constraints"]["domains"] = [spelling]

    case.edit(change)
    rows = [[age, income, "True"] for age, income, _ in people(500, seed=1)]
    checks = case.checks(captured(rows))
    assert ("plan", "categorical_values_check") not in checks


def test_the_sdks_sample_of_statistics():
    """tests/data/monitor/statistics.json of the SageMaker SDK."""
    buckets = [{"value": "preproc-not-YET-supported-for-csv-json", "count": 418}]
    sample = {
        "version": 0.0,
        "dataset": {"item_count": 418},
        "features": [
            {
                "name": "message",
                "inferred_type": "String",
                "string_statistics": {
                    "common": {"num_present": 418, "num_missing": 0},
                    "distinct_count": 1.0,
                    "distribution": {"categorical": {"buckets": buckets}},
                },
            }
        ],
    }
    found = statistics.parse(sample, "statistics.json")
    made = Column("message")
    made.add(["preproc-not-YET-supported-for-csv-json"] * 418)
    assert statistics.document(418, [made]) == sample
    assert found.features["message"] == statistics.Feature.of(made)


@pytest.mark.parametrize(
    "damage",
    [
        {"features": [{"name": "a"}]},
        {"features": 7},
        {"features": [{"name": "a", "inferred_type": "Vague"}]},
        {"dataset": {"item_count": float("inf")}},
        {"dataset": [1]},
    ],
)
def test_statistics_that_are_none(damage):
    with pytest.raises(DataError, match=r"not a valid statistics\.json"):
        statistics.parse({"dataset": {"item_count": 1}, "features": []} | damage, "x")
