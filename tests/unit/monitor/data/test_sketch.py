"""The sketch: exact while small, close when large, bounded always."""

from __future__ import annotations

import numpy as np
import pytest

from sagemaker_byoc.monitor.data.distributions import K, Sample, Sketch, numeric_gap


def exact(values):
    return Sample(np.sort(values), np.arange(1.0, len(values) + 1))


def test_small_is_exact():
    values = np.random.default_rng(0).normal(size=K)
    sketch = Sketch()
    for part in np.array_split(values, 7):
        sketch.add(part)
    assert sketch.count == K
    assert numeric_gap(sketch.sample(), exact(values)).size == 0


@pytest.mark.parametrize("order", ["random", "rising", "few values"])
def test_large_is_close(order):
    values = np.random.default_rng(1).normal(size=300_000)
    if order == "rising":
        values.sort()
    elif order == "few values":
        values = np.round(values)
    sketch = Sketch()
    for part in np.array_split(values, 37):
        sketch.add(part)
    assert sketch.count == len(values)
    assert sum(map(len, sketch.levels)) < 3 * K
    assert numeric_gap(sketch.sample(), exact(values)).size < 0.002


def test_round_trip():
    sketch = Sketch()
    sketch.add(np.random.default_rng(2).normal(size=50_000))
    again = Sketch.from_document(sketch.document())
    assert again.count == 50_000
    assert numeric_gap(sketch.sample(), again.sample()).size == 0


def test_the_same_data_gives_the_same_sketch():
    made = []
    for _ in range(2):
        sketch = Sketch()
        sketch.add(np.random.default_rng(3).normal(size=20_000))
        made.append(sketch.document())
    assert made[0] == made[1]


@pytest.mark.parametrize("data", [[[float("nan")]], [["a"]], [[1.0, float("inf")]]])
def test_refused(data):
    with pytest.raises((ValueError, TypeError)):
        Sketch.from_document(data)


def test_empty():
    assert Sketch.from_document([]).count == 0
    assert Sketch().sample().count == 0
