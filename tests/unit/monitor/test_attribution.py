"""NDCG of feature attributions; the first example is that of AWS's guide."""

from __future__ import annotations

import json

import pytest
from tests.unit.monitor.cases import PLACES

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.monitor import attribution, jobs
from sagemaker_byoc.monitor.attribution import ndcg
from sagemaker_byoc.monitor.inputs.streams import DataError
from sagemaker_byoc.monitor.jobs import documents
from sagemaker_byoc.monitor.places import Input

COLLEGE = {"SAT score": 0.70, "GPA": 0.50, "Class rank": 0.05}
REVERSED = {"SAT score": 0.10, "GPA": 0.20, "Class rank": 0.70}


def test_college_admission():
    assert round(ndcg(COLLEGE, REVERSED), 2) == 0.69
    assert ndcg(COLLEGE, COLLEGE) == 1.0


def test_the_size_counts_and_not_the_sign():
    assert ndcg(COLLEGE, {name: -value for name, value in COLLEGE.items()}) == 1.0


def analysis(shares, label="label0"):
    return {"explanations": {"kernel_shap": {label: {"global_shap_values": shares}}}}


@pytest.fixture
def run(tmp_path):
    def write(name, document):
        (tmp_path / name).write_text(json.dumps(document))
        return Input(place=str(tmp_path / name))

    jobs.make_baseline(PLACES, write("base.json", analysis(COLLEGE)), None, str(tmp_path / "base"))

    def go(document):
        baseline = documents(PLACES, str(tmp_path / "base"))
        return jobs.run(
            PLACES, write("analysis.json", document), baseline, None, str(tmp_path / "out")
        )

    go.out = tmp_path / "out"
    return go


def test_drift(run):
    found = run(analysis(REVERSED))
    written = json.loads((run.out / "constraint_violations.json").read_text())
    score = ndcg(COLLEGE, REVERSED)
    assert written == {
        "version": "1.0",
        "violations": [
            {
                "label": "label0",
                "metric_name": "shap",
                "constraint_check_type": "feature_attribution_drift_check",
                "description": f"Feature attribution drift {score} exceeds threshold 0.9",
            }
        ],
    }
    assert "  SAT score: 1. → 3. (0.7 → 0.1)" in found.words


def test_no_drift(run):
    assert run(analysis(COLLEGE)).violations == 0


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (analysis({"GPA": 1}), "different features"),
        (analysis({"GPA": "much"}), "not an analysis"),
        (analysis({}), "different features"),
        (
            {"explanations": {"kernel_shap": {"other": {"global_shap_values": {"a": 1}}}}},
            "explains",
        ),
        ({"explanations": 7}, "not an analysis"),
    ],
)
def test_refused(run, document, told):
    with pytest.raises(DataError, match=told):
        run(document)


def test_not_an_analysis(run):
    with pytest.raises(RequestError, match=r"is not an analysis\.json"):
        run({"rows": 1})


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ({"a": 0, "b": 0}, {"a": 1, "b": 2}, "every attribution of the baseline is 0"),
        ({"a": 1, "b": 2}, {"a": 0, "b": 0}, "every attribution is 0 now"),
        ({"a": 1}, {"a": 2}, "there is one feature, whose place can't change"),
    ],
)
def test_an_order_that_says_nothing_is_not_compared(tmp_path, before, now, told):
    why = attribution.run(PLACES, analysis(now), analysis(before), str(tmp_path), {})
    assert (why["violations"], why["checks"], why["not_compared"]) == ([], 0, {"label0": told})
    assert f"not compared: label0: {told}" in attribution.words(why)
    shown = (tmp_path / "report.html").read_text()
    assert 'class="good"' not in shown
    assert "<h2>Not compared</h2>" in shown
