"""Labels and predictions, in the shapes that programs use, converted to two lists of classes.

docs/how-to/watch-a-training.md has the rules. An unclear pair of shapes is a ContractError.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.training.library.watch.rules.base import Integers

Array: TypeAlias = npt.NDArray[Any]
LIKELY = 0.5
"""The probability from which a binary prediction is class 1; a logit's limit is 0."""
SUM_TOLERANCE = 1e-2
"""How far an example's probabilities, which may be float16, may sum up from 1."""

LARGEST = 2**53
"""Larger classes are left out: a float may not hold their numbers exactly."""


def read_classes(
    labels: object,
    predictions: object,
    ignore_index: int = -100,
    threshold: float | None = None,
    class_axis: int | None = None,
) -> tuple[Integers, Integers]:
    """Return the labels' classes and the predicted ones, without those to be ignored."""
    truth, guess = _array(labels, "labels"), _array(predictions, "predictions")
    size = None
    if threshold is None or truth.shape != guess.shape:
        truth, guess, size = _without_class_axis(truth, guess, class_axis)
    if truth.shape != guess.shape:
        raise _unclear(truth, guess, "do not belong together")
    truth, guess = truth.reshape(-1), guess.reshape(-1)
    known = np.isfinite(truth) & ~np.isnan(guess) & (truth != ignore_index)
    truth, guess = truth[known], guess[known]
    if not _is_whole(truth):
        raise _unclear(truth, guess, "hold labels that are not whole numbers")
    if size is None and (threshold is not None or not _are_classes(guess)):
        truth, guess = _binary(truth, guess, threshold)
    is_class = (truth >= 0) & (guess >= 0) & (truth < LARGEST) & (guess < LARGEST)
    if size is not None:
        is_class &= truth < size
    return truth[is_class].astype(np.int64), guess[is_class].astype(np.int64)


def _binary(truth: Array, guess: Array, threshold: float | None) -> tuple[Array, Array]:
    """Scores of class 1, one per label: probabilities, or logits if any is not from 0 to 1."""
    if truth.size and truth.min() == -1 and not (truth == 0).any():
        truth = np.where(truth == -1, 0, truth)  # classes -1 and 1
    if (truth > 1).any():
        raise _unclear(truth, guess, "are one score per label, and the labels are not 0 and 1")
    if threshold is None:
        threshold = 0.0 if ((guess < 0) | (guess > 1)).any() else LIKELY
    return truth, (guess >= threshold).astype(np.int64)


def _without_class_axis(
    truth: Array, guess: Array, axis: int | None
) -> tuple[Array, Array, int | None]:
    """Return both with one entry per label, and the number of classes if the scores have it."""
    if truth.ndim == guess.ndim and truth.shape != guess.shape:
        truth = _squeezed(truth, guess)
    if truth.ndim == guess.ndim + 1:  # labels per class, and predicted classes
        axis = _axis(truth, guess, axis)
        if truth.shape[axis] == 1:
            return truth.squeeze(axis), guess, None
        _check_one_hot(truth, guess, axis)
        return truth.argmax(axis), guess, truth.shape[axis]
    if guess.ndim == truth.ndim + 1:
        axis = _axis(guess, truth, axis)
        if guess.shape[axis] == 1:
            return truth, guess.squeeze(axis), None
        return truth, _best(guess, axis), guess.shape[axis]
    if truth.shape == guess.shape and truth.ndim > 1:
        return _of_one_shape(truth, guess, axis)
    return truth, guess, None


def _of_one_shape(truth: Array, guess: Array, axis: int | None) -> tuple[Array, Array, int | None]:
    """Convert labels and scores of one shape: per class or, for binary scores, per element."""
    may_be_classes = axis is None and _is_whole(truth) and _are_classes_per_element(guess)
    if may_be_classes and not _is_one_hot(guess, 1):
        return truth, guess, None
    for one in (1, -1) if axis is None else (axis,):
        if truth.shape[one] > 1 and _is_one_hot(truth, one):
            return truth.argmax(one), _best(guess, one), truth.shape[one]
    if axis is not None or (truth.ndim == 2 and truth.shape[1] > 1 and _is_binary(truth)):
        _check_one_hot(truth, guess, 1 if axis is None else axis)
    return truth, guess, None


def _array(values: object, what: str) -> Array:
    """Return the values on the host, with a type that numpy has."""
    if isinstance(values, list | tuple) and values and all(isinstance(v, Tensor) for v in values):
        values = [_host(one) for one in values]
    try:
        if values is None:
            raise TypeError("None")  # noqa: TRY301 - which numpy takes for NaN
        array = np.asarray(_host(values) if isinstance(values, Tensor) else values)
        return array if array.dtype.kind in "iuf" else array.astype(np.float64)
    except Exception as error:
        raise ContractError(
            where=what,
            what=f"are not numbers in a regular shape ({error})",
            hint="Give numbers: the index of each class",
        ) from error


def _host(tensor: Tensor) -> Array:
    tensor = tensor.detach().resolve_conj().resolve_neg()
    tensor = tensor.dequantize() if tensor.is_quantized else tensor
    tensor = tensor.to_dense() if tensor.layout is not torch.strided else tensor
    tensor = tensor.float() if tensor.is_floating_point() else tensor
    found: Array = tensor.cpu().numpy()
    return found


def _squeezed(truth: Array, guess: Array) -> Array:
    """Return labels without an axis of size 1 where the scores have one per class."""
    for axis in (1, -1):
        if truth.ndim > 1 and truth.shape[axis] == 1:
            rest = (
                (*guess.shape[:axis], *guess.shape[axis + 1 :]) if axis == 1 else guess.shape[:-1]
            )
            if truth.squeeze(axis).shape == rest:
                return truth.squeeze(axis)
    return truth


def _axis(wide: Array, narrow: Array, given: int | None) -> int:
    """Return the axis that only `wide` has: 1, as in torch, or the last one."""
    candidates = (1, wide.ndim - 1) if given is None else (given % wide.ndim,)
    fitting = {
        axis
        for axis in candidates
        if axis < wide.ndim and (*wide.shape[:axis], *wide.shape[axis + 1 :]) == narrow.shape
    }
    if len(fitting) > 1 and any(wide.shape[axis] > 1 for axis in fitting):
        raise _unclear(wide, narrow, "may have an entry per class in axis 1 or in the last one")
    if not fitting:
        raise _unclear(wide, narrow, "do not belong together")
    return fitting.pop()


def _best(scores: Array, axis: int) -> Array:
    """Return the class of the highest score; NaN if any score is NaN."""
    best: Array = np.where(np.isnan(scores).any(axis), np.nan, scores.argmax(axis))
    return best


def _are_classes(values: Array) -> bool:
    return values.dtype.kind in "iu" or bool(
        (values == np.floor(values)).all() and (values >= 0).all() and np.isfinite(values).all()
    )


def _are_classes_per_element(values: Array) -> bool:
    """Return whether values are classes: of floats only 0 and 1, since logits may be whole too."""
    if values.dtype.kind in "iu":
        return bool((values >= 0).all())
    return _is_binary(values)


def _is_whole(values: Array) -> bool:
    finite = values[np.isfinite(values)]
    return bool((finite == np.floor(finite)).all())


def _is_binary(values: Array) -> bool:
    return bool(((values == 0) | (values == 1)).all())


def _is_one_hot(values: Array, axis: int) -> bool:
    """Return whether each example's values sum up to 1, as label smoothing keeps them."""
    sums = values.sum(axis)
    return bool((values >= 0).all() and (np.abs(sums - 1) <= SUM_TOLERANCE).all())


def _check_one_hot(truth: Array, guess: Array, axis: int) -> None:
    if not _is_one_hot(truth, axis):
        raise _unclear(truth, guess, "have several labels per example, or none")


def _unclear(first: Array, second: Array, what: str) -> ContractError:
    return ContractError(
        where=f"labels and predictions of shapes {first.shape} and {second.shape}",
        what=what,
        hint="Give class_axis=, threshold= if each score is of a label 0 or 1, or one label at a "
        "time: predictions(labels[:, 0], scores[:, 0])",
    )
