"""The metrics of model quality beside scikit-learn's, on random labels and predictions."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from sagemaker_byoc.monitor.scores import (
    Predictions,
    Problem,
    binary,
    confusion,
    judge,
    multiclass,
    regression,
)

BETAS = {"f0_5": 0.5, "f1": 1.0, "f2": 2.0}


def drawn(seed, classes, rows, right=0.6):
    """Labels of uneven shares, and predictions that are right in `right` of the rows."""
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.full(classes, 0.7))
    labels = random.choice(classes, rows, p=shares)
    guesses = random.choice(classes, rows)
    predicted = np.where(random.random(rows) < right, labels, guesses)
    names = tuple(map(str, range(classes)))
    return Predictions(labels.astype(float), predicted.astype(float), classes=names)


@pytest.mark.parametrize("seed", range(8))
def test_several_classes(seed):
    """Weighted by the labels' shares; some classes are never predicted, or never true."""
    data = drawn(seed, classes=2 + seed * 3, rows=40 + 60 * seed)
    found = multiclass(data)
    truth, guess = data.labels, data.predicted
    expected = {
        "accuracy": metrics.accuracy_score(truth, guess),
        "weighted_recall": metrics.recall_score(truth, guess, average="weighted", zero_division=0),
        "weighted_precision": metrics.precision_score(
            truth, guess, average="weighted", zero_division=0
        ),
    }
    for name, beta in BETAS.items():
        expected[f"weighted_{name}"] = metrics.fbeta_score(
            truth, guess, beta=beta, average="weighted", zero_division=0
        )
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-12)
    constant = np.full(len(truth), np.bincount(truth.astype(int)).argmax(), dtype=float)
    assert found["accuracy_best_constant_classifier"] == metrics.accuracy_score(truth, constant)
    assert found["weighted_f1_best_constant_classifier"] == pytest.approx(
        metrics.f1_score(truth, constant, average="weighted", zero_division=0)
    )
    labels = list(range(len(data.classes)))
    assert (
        confusion(data).tolist() == metrics.confusion_matrix(truth, guess, labels=labels).tolist()
    )


@pytest.mark.parametrize("seed", range(8))
def test_two_classes(seed):
    """Probabilities with ties, which share a rank."""
    data = drawn(seed, classes=2, rows=200)
    random = np.random.default_rng(seed)
    chances = np.clip(data.labels * 0.3 + random.random(len(data)), 0, 1).round(1 + seed % 3)
    data = Predictions(data.labels, data.predicted, chances, ("0", "1"))
    found = binary(data)
    truth, guess = data.labels, data.predicted
    expected = {
        "recall": metrics.recall_score(truth, guess),
        "precision": metrics.precision_score(truth, guess),
        "accuracy": metrics.accuracy_score(truth, guess),
        "true_negative_rate": metrics.recall_score(truth, guess, pos_label=0),
        "false_positive_rate": 1 - metrics.recall_score(truth, guess, pos_label=0),
        "false_negative_rate": 1 - metrics.recall_score(truth, guess),
        "auc": metrics.roc_auc_score(truth, chances),
        **{name: metrics.fbeta_score(truth, guess, beta=beta) for name, beta in BETAS.items()},
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-12)


def test_curves():
    """Every point of a curve with few values is one of scikit-learn's."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 300).astype(float)
    chances = np.clip(labels * 0.3 + random.random(300), 0, 1).round(1)
    data = Predictions(labels, (chances > 0.5).astype(float), chances, ("0", "1"))
    found = judge(Problem.BINARY, data).document
    ours = found["receiver_operating_characteristic_curve"]
    points = zip(ours["false_positive_rates"], ours["true_positive_rates"], strict=True)
    wrong, right, _ = metrics.roc_curve(labels, chances, drop_intermediate=False)
    assert [*points] == [*map(pytest.approx, zip(wrong.tolist(), right.tolist(), strict=True))]
    ours = found["precision_recall_curve"]
    precision, recall, _ = metrics.precision_recall_curve(labels, chances)
    theirs = [*zip(precision.tolist(), recall.tolist(), strict=True)][::-1]
    points = [*zip(ours["precisions"], ours["recalls"], strict=True)]
    assert points == [*map(pytest.approx, theirs)]


@pytest.mark.parametrize("seed", range(4))
def test_regression(seed):
    random = np.random.default_rng(seed)
    truth = random.normal(50, 10, 300)
    guess = truth + random.normal(0, 5, 300)
    expected = {
        "mae": metrics.mean_absolute_error(truth, guess),
        "mse": metrics.mean_squared_error(truth, guess),
        "rmse": metrics.root_mean_squared_error(truth, guess),
        "r2": metrics.r2_score(truth, guess),
    }
    assert regression(Predictions(truth, guess)) == pytest.approx(expected, rel=1e-12)
