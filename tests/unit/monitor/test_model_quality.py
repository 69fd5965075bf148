"""Model quality, held against the examples of AWS's guide (model-monitor-model-quality-metrics)."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from tests.unit.monitor.cases import PLACES, csv_text, record

from sagemaker_byoc.contract.capture import GroundTruth
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.monitor import jobs
from sagemaker_byoc.monitor.inputs.streams import DataError
from sagemaker_byoc.monitor.jobs import documents
from sagemaker_byoc.monitor.places import Input
from sagemaker_byoc.monitor.predictions import Attributes
from sagemaker_byoc.monitor.scores import Predictions, Problem, area, judge


def of_matrix(matrix):
    """Labels and predictions with this confusion matrix, rows the truth."""
    pairs = [
        (truth, guess)
        for truth, row in enumerate(matrix)
        for guess, count in enumerate(row)
        for _ in range(count)
    ]
    labels, predicted = np.array(pairs, dtype=float).T
    return Predictions(labels, predicted, classes=tuple(map(str, range(len(matrix)))))


def test_binary_example_of_the_guide():
    data = of_matrix([[1, 2], [0, 1]])
    judged = judge(Problem.BINARY, data)
    values = {name: score.value for name, score in judged.scores.items()}
    assert values == pytest.approx(
        {
            "recall": 1.0,
            "precision": 0.3333333333333333,
            "accuracy": 0.5,
            "recall_best_constant_classifier": 1.0,
            "precision_best_constant_classifier": 0.25,
            "accuracy_best_constant_classifier": 0.25,
            "true_positive_rate": 1.0,
            "true_negative_rate": 0.33333333333333337,
            "false_positive_rate": 0.6666666666666666,
            "false_negative_rate": 0.0,
            "f0_5": 0.3846153846153846,
            "f1": 0.5,
            "f2": 0.7142857142857143,
            "f0_5_best_constant_classifier": 0.29411764705882354,
            "f1_best_constant_classifier": 0.4,
            "f2_best_constant_classifier": 0.625,
        }
    )
    assert judged.document["confusion_matrix"] == {"0": {"0": 1, "1": 2}, "1": {"0": 0, "1": 1}}
    assert judged.document["recall"] == {"value": 1.0, "standard_deviation": "NaN"}


def test_multiclass_example_of_the_guide():
    """Without its best constant classifier, which takes the rarer class; ours takes the other."""
    judged = judge(Problem.MULTICLASS, of_matrix([[1180, 510], [268, 138]]))
    expected = {
        "accuracy": 0.6288167938931297,
        "weighted_recall": 0.6288167938931297,
        "weighted_precision": 0.6983172269629505,
        "weighted_f0_5": 0.6803947317178771,
        "weighted_f1": 0.6571162346664904,
        "weighted_f2": 0.6384024354394601,
    }
    for name, value in expected.items():
        assert judged.scores[name].value == pytest.approx(value, rel=1e-12), name
    assert judged.scores["accuracy_best_constant_classifier"].value == pytest.approx(1690 / 2096)
    assert 0 < judged.scores["accuracy"].deviation < 0.02


def test_regression_example_of_the_guide():
    """Labels and predictions of 0 and 1: mae and mse are the share of errors, rmse its root."""
    data = of_matrix([[1180, 510], [268, 138]])
    scores = judge(Problem.REGRESSION, data).scores
    assert scores["mae"].value == pytest.approx(0.3711832061068702)
    assert scores["mse"].value == pytest.approx(0.3711832061068702)
    assert scores["rmse"].value == pytest.approx(0.609248066149471)
    assert scores["r2"].value == pytest.approx(-1.3766111872212665)


def test_area():
    labels = np.array([0.0, 0, 1, 1])
    assert area(labels, np.array([0.1, 0.4, 0.35, 0.8])) == 0.75
    assert area(labels, np.array([0.5, 0.5, 0.5, 0.5])) == 0.5
    assert math.isnan(area(np.ones(3), np.ones(3)))


def test_standard_error():
    """Twice the deviation of subsets of 80 % is what binomial theory says."""
    judged = judge(Problem.BINARY, of_matrix([[400, 100], [100, 400]]))
    assert judged.scores["accuracy"].error == pytest.approx(math.sqrt(0.8 * 0.2 / 1000), rel=0.35)


def test_curves_of_a_perfect_model():
    labels = np.array([0.0] * 5 + [1.0] * 5)
    data = Predictions(labels, labels, labels, ("0", "1"))
    found = judge(Problem.BINARY, data).document
    roc = found["receiver_operating_characteristic_curve"]
    assert roc == {
        "false_positive_rates": [0.0, 0.0, 1.0],
        "true_positive_rates": [0.0, 1.0, 1.0],
    }
    assert found["auc"]["value"] == 1.0


WANTED = Attributes(problem=Problem.BINARY, label="label", probability="probability")


class Judge:
    """A baseline that is right 90 times in 100, and captures with labels beside them."""

    def __init__(self, folder):
        self.folder = folder
        rows = [[place % 2, self.chance(place, 10)] for place in range(1000)]
        (folder / "base.csv").write_text(csv_text([["label", "probability"], *rows]))
        data = Input(place=str(folder / "base.csv"))
        jobs.make_baseline(PLACES, data, WANTED, str(folder / "baseline"))

    @staticmethod
    def chance(place, every):
        is_wrong = place // 2 % every == 0
        return 0.8 if (place % 2 == 1) != is_wrong else 0.2

    def run(self, every, *, labels=400, **options):
        lines = [
            record("1,2", f"{self.chance(place, every)}", number=place) for place in range(500)
        ]
        truth = [GroundTruth(f"event-{place}", str(place % 2)).to_line() for place in range(labels)]
        (self.folder / "live.jsonl").write_bytes(b"".join(lines))
        (self.folder / "truth.jsonl").write_bytes(b"".join(truth) + b"nonsense\n")
        wanted = Attributes(
            problem=Problem.BINARY,
            labels=str(self.folder / "truth.jsonl"),
            **{"probability": "0"} | options,
        )
        baseline = documents(PLACES, str(self.folder / "baseline"))
        data = Input(place=str(self.folder / "live.jsonl"))
        return jobs.run(PLACES, data, baseline, wanted, str(self.folder / "out"))


@pytest.fixture
def case(tmp_path):
    return Judge(tmp_path)


def test_suggested_constraints(case):
    found = json.loads((case.folder / "baseline" / "constraints.json").read_text())
    limits = found["binary_classification_constraints"]
    assert limits["accuracy"] == {"threshold": 0.9, "comparison_operator": "LessThanThreshold"}
    assert limits["false_positive_rate"]["comparison_operator"] == "GreaterThanThreshold"
    assert not any(name.endswith("constant_classifier") for name in limits)


def test_as_good_as_the_baseline(case):
    found = case.run(10)
    assert found.violations == 0
    assert found.why["rows"] == 400
    assert found.why["unlabelled"] == 100


def test_worse_than_the_baseline(case):
    found = case.run(2)
    by_name = {each["metric_name"]: each for each in found.why["violations"]}
    assert by_name["accuracy"] == {
        "metric_name": "accuracy",
        "constraint_check_type": "LessThanThreshold",
        "description": "Metric accuracy with 0.5 was LessThanThreshold 0.9",
    }
    text = "\n".join(found.words)
    assert "more than chance does" in text
    statistics = json.loads((case.folder / "out" / "statistics.json").read_text())
    assert statistics["binary_classification_metrics"]["accuracy"]["value"] == 0.5
    assert statistics["dataset"] == {"item_count": 400}


def test_few_labels_say_so(case):
    found = case.run(2, labels=50)
    assert "\n".join(found.words).count("fewer than 200 labels") == 1


def test_no_label_fits(case):
    with pytest.raises(DataError, match="has no labels"):
        case.run(2, labels=0)


def test_an_output_that_is_not_there(case):
    with pytest.raises(DataError, match=r"400 of 400 rows can't be judged.* no '7'"):
        case.run(10, probability="7")


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), 10**400, None, "high"])
def test_a_threshold_that_nothing_is_above_or_below(case, threshold):
    """Not a limit that never fires, and not a failure of ours."""
    path = case.folder / "baseline" / "constraints.json"
    document = json.loads(path.read_text())
    document["binary_classification_constraints"]["accuracy"]["threshold"] = threshold
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match="the constraint accuracy has no threshold"):
        case.run(10)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (Attributes(problem=Problem.BINARY, label="label", prediction="nothing"), "no column"),
        (Attributes(problem=Problem.BINARY, label="label"), "holds the predictions"),
        (Attributes(problem=Problem.BINARY, prediction="probability"), "holds the labels"),
        (Attributes(problem=Problem.BINARY, label="probability", prediction="label"), "not 0 or 1"),
    ],
)
def test_wrong_columns(case, wanted, told):
    data = Input(place=str(case.folder / "base.csv"))
    with pytest.raises((RequestError, DataError), match=told):
        jobs.make_baseline(PLACES, data, wanted, str(case.folder / "other"))


def test_a_merged_record_has_its_label(tmp_path):
    """As AWS's merge job hands it to the analyzer."""
    case = Judge(tmp_path)
    lines = []
    for place in range(300):
        line = json.loads(record("1", f"{Judge.chance(place, 10)}", number=place))
        line["groundTruthData"] = {"data": str(place % 2), "encoding": "CSV"}
        lines.append(json.dumps(line).encode())
    (tmp_path / "live.jsonl").write_bytes(b"\n".join(lines))
    baseline = documents(PLACES, str(tmp_path / "baseline"))
    wanted = Attributes(problem=Problem.BINARY, probability="0")
    data = Input(place=str(tmp_path / "live.jsonl"))
    found = jobs.run(PLACES, data, baseline, wanted, str(tmp_path / "out"))
    assert found.why["rows"] == 300
    assert case.folder == tmp_path
