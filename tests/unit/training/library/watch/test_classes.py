"""Labels and predictions in the shapes that programs have: a perfect classifier is always 100 %."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.training.library.watch.classes import read_classes
from sagemaker_byoc.training.library.watch.rules import losses as rules

BINARY = torch.tensor([0, 1, 1, 0, 1, 0])
MANY = torch.tensor([0, 1, 2, 3, 2, 1])
IMAGES = MANY.reshape(1, 2, 3).repeat(2, 1, 1)


def scores(labels, size=4, axis=-1, scale=5.0):
    """Logits with the highest one at each label."""
    hot = torch.nn.functional.one_hot(labels.clamp(min=0), size) * scale - 1.5
    return hot.movedim(-1, axis)


def hot(labels, axis=-1):
    return torch.nn.functional.one_hot(labels, 4).float().movedim(-1, axis)


LOGITS = BINARY * 4.0 - 2.5
CHANCES = torch.sigmoid(LOGITS)

PERFECT = {
    "classes": (MANY, MANY, {}),
    "classes as floats": (MANY.double(), MANY.float(), {}),
    "lists": (MANY.tolist(), scores(MANY).tolist(), {}),
    "lists of tensors": ([*MANY], [*scores(MANY)], {}),
    "numpy": (MANY.numpy().astype(np.uint8), scores(MANY).numpy(), {}),
    "bfloat16": (MANY, scores(MANY).bfloat16(), {}),
    "float16": (MANY, scores(MANY).half(), {}),
    "with a gradient": (MANY, scores(MANY).requires_grad_(), {}),
    "booleans": (BINARY.bool(), BINARY.bool(), {}),
    "booleans and chances": (BINARY.bool(), CHANCES, {}),
    "binary chances": (BINARY, CHANCES, {}),
    "binary logits": (BINARY, LOGITS, {}),
    "whole logits": (BINARY, BINARY * 6.0 - 3.0, {}),
    "infinite logits": (BINARY, (BINARY * 2.0 - 1) * float("inf"), {}),
    "binary in a column": (BINARY, LOGITS[:, None], {}),
    "both in a column": (BINARY[:, None].float(), CHANCES[:, None], {}),
    "labels in a column": (MANY[:, None], scores(MANY), {}),
    "two scores": (BINARY, torch.stack((-LOGITS, LOGITS), 1), {}),
    "minus one and one": (BINARY * 2 - 1, LOGITS, {}),
    "one-hot": (hot(MANY), scores(MANY), {}),
    "one-hot whole numbers": (hot(MANY).int(), scores(MANY, scale=6).round().int() - 1, {}),
    "one-hot both": (hot(MANY), hot(MANY), {}),
    "one-hot and classes": (hot(MANY), MANY, {}),
    "smoothed": (hot(MANY) * 0.9 + 0.025, scores(MANY), {}),
    "ignored": (torch.tensor([0, -100, 2]), scores(torch.tensor([0, 1, 2])), {}),
    "ignored 255": (torch.tensor([0, 255, 2]), scores(torch.tensor([0, 1, 2])), {}),
    "ignored 3": (torch.tensor([0, 3, 2]), scores(torch.tensor([0, 1, 2])), {"ignore_index": 3}),
    "ignored binary": (torch.tensor([0, -100, 1]), torch.tensor([-2.5, 9, 2.5]), {}),
    "images": (IMAGES, scores(IMAGES, axis=1), {}),
    "images, last axis": (IMAGES, scores(IMAGES), {}),
    "images, one channel": (IMAGES[:, None], scores(IMAGES, axis=1), {}),
    "one-hot images": (hot(IMAGES, 1), scores(IMAGES, axis=1), {}),
    "binary images": (IMAGES > 0, (IMAGES > 0) * 4.0 - 2.5, {}),
    "binary images, a channel": (IMAGES > 0, ((IMAGES > 0) * 4.0 - 2.5)[:, None], {}),
    "sequences": (MANY.reshape(2, 3), scores(MANY.reshape(2, 3)), {}),
    "sequences, torch": (MANY.reshape(2, 3), scores(MANY.reshape(2, 3), axis=1), {}),
    "which axis": (MANY[:4].repeat(4, 1), scores(MANY[:4].repeat(4, 1)), {"class_axis": -1}),
    "several labels": (torch.eye(3) + 0 == 1, torch.eye(3) * 4 - 2.5, {"threshold": 0.0}),
    "a threshold": (BINARY, CHANCES * 0.1, {"threshold": 0.05}),
    "whole logits and one-hot": (hot(MANY), hot(MANY) * 9, {}),
    "whole logits and smoothed": (hot(MANY) * 0.9 + 0.025, hot(MANY) * 9, {}),
    "one example of one class": (BINARY[1].reshape(1, 1), CHANCES[1].reshape(1, 1, 1), {}),
    "negative view": (BINARY, torch._neg_view(-LOGITS), {}),
    "sparse": (BINARY, LOGITS.to_sparse(), {}),
    "too large": ([0.0, 1.0, 1e30], [0.0, 1.0, 1e30], {}),
    "nothing": ([], [], {}),
}

COUNTS = {
    "ignored": 2,
    "ignored 255": 2,
    "ignored 3": 2,
    "ignored binary": 2,
    "which axis": 16,
    "several labels": 9,
    "one example of one class": 1,
    "too large": 2,
    "nothing": 0,
}


@pytest.mark.parametrize("name", PERFECT)
def test_perfect(name):
    """Each label is predicted right, and none is lost but what is to be ignored."""
    labels, predictions, options = PERFECT[name]
    truth, guess = read_classes(labels, predictions, **options)
    assert truth.tolist() == guess.tolist()
    assert len(truth) == COUNTS.get(name, 12 if "images" in name else 6)
    assert len(set(truth.tolist())) > 1 or name in {"nothing", "one example of one class"}


def test_mistakes_are_mistakes():
    """One of three, in several shapes."""
    for labels, predictions in (
        (BINARY[:3], LOGITS[:3] * torch.tensor([1, 1, -1])),
        (MANY[:3], scores(torch.tensor([0, 1, 1]))),
        (hot(MANY[:3]), scores(torch.tensor([0, 1, 1]))),
    ):
        truth, guess = read_classes(labels, predictions)
        assert (truth != guess).sum() == 1


def test_scores_of_class_1():
    """Logits if any is not from 0 to 1, else probabilities; a threshold is taken as it is."""
    assert read_classes([1, 1], [0.25, 0.75])[1].tolist() == [0, 1]
    assert read_classes([1, 1], [0.25, -0.75])[1].tolist() == [1, 0]
    assert read_classes([1, 1], [0.25, 0.75], threshold=0)[1].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("labels", "predictions", "what"),
    [
        ([0, 1, 2], [0, 1], "shapes (3,) and (2,): do not belong together"),
        ([[1, 1, 0]], [[0.9, 0.8, 0.1]], "have several labels per example"),
        ([0.5, 1.5], [0.4, 1.4], "labels that are not whole numbers"),
        ([0, 5], [0.4, 0.6], "the labels are not 0 and 1"),
        (["cat", "dog"], ["cat", "dog"], "labels: are not numbers"),
        ([[0], [1, 2]], [0, 1], "labels: are not numbers in a regular shape"),
        (np.zeros((4, 4)), np.zeros((4, 4, 4)), "in axis 1 or in the last one"),
        (None, None, "labels: are not numbers"),
        ([1], torch.empty(1, device="meta"), "predictions: are not numbers"),
    ],
)
def test_what_cannot_be_told_apart(labels, predictions, what):
    """Named with both shapes, and with what to write instead."""
    with pytest.raises(ContractError) as error:
        read_classes(labels, predictions)
    assert what in str(error.value)


def test_in_a_training(watched, capsys):
    """It never ends the training: said once, in the log and on the page; the rest is judged."""
    found = watched(rules=["ClassImbalance", "Confusion"])
    for _ in range(2):
        found.predictions([0.5, 1.5], [0.4, 1.4])
    found.predictions(torch.zeros(3).long(), torch.zeros(3, 0))
    found.predictions(BINARY, LOGITS, threshold="high")
    found.predictions(BINARY, LOGITS)
    found.loss([1.0, 2.0])
    found.close()
    said = capsys.readouterr().err
    assert said.count("predictions are not judged: labels and predictions of shapes") == 1
    assert said.count("predictions are not judged: ") == 3
    assert said.count("a loss must be one number") == 1
    page = found.page.read_text()
    assert "Predictions are not judged" in page
    assert found.findings == ()
    assert found.panel.judged("Confusion") == 1


def test_vocabulary(capsys):
    """Classes by the tens of thousands: no matrix of them is made, and it is said once."""
    rule = rules.Confusion()
    truth = np.arange(0, 60_000, 7)
    for _ in range(2):
        assert list(rule.predictions(0, truth, truth)) == []
    assert capsys.readouterr().err.count("Confusion looks at 1000 classes, and not at 5") == 1
