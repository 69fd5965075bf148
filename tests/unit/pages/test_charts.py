"""The page's pictures: what their axes say, and what they leave out."""

from __future__ import annotations

import re

import pytest

from sagemaker_byoc.pages import charts


def texts(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (0.00094, 2.32, [0, 0.5, 1, 1.5, 2, 2.5]),
        (-3e-7, 3e-7, [-4e-7, -2e-7, 0, 2e-7, 4e-7]),
        (7, 7.001, [7, 7.0002, 7.0004, 7.0006, 7.0008, 7.001]),
    ],
)
def test_ticks_are_round(low, high, ticks):
    """And hold what is drawn between them."""
    assert charts._ticks(low, high) == pytest.approx(ticks)


def test_lines():
    """A legend, the last step, no point that is not finite; nothing without two points."""
    svg = charts.lines({"train": [(0, 2.0), (5, float("nan")), (290, 1.0)], "eval": []}, "step")
    assert svg.count("<polyline") == 1
    assert "nan" not in svg
    assert {"train", "290 step", "100", "200"} <= {*texts(svg)}
    assert charts.lines({"train": [(0, 2.0)]}, "step") == ""
    assert charts.lines({"still": [(0, 2.0), (1, 2.0)]}, "step").count("<polyline") == 1


def test_many_lines_have_room():
    """Eight GPUs, processors and memory."""
    names = ["processors", "memory", *(f"gpu{number}" for number in range(8))]
    svg = charts.lines({name: [(0, 1.0), (1, 2.0)] for name in names}, "seconds")
    places = [int(x) for x in re.findall(r'<rect x="(\d+)"', svg)]
    assert places == sorted({*places})
    assert max(places) < charts.WIDTH - charts.RIGHT
    assert "gpu7" in texts(svg)


def test_heat():
    """Zeros are red; of too many tensors the rest is counted; names are text, not markup."""
    values = {f"layer{number}.<b>": 10.0**-number for number in range(45)} | {"dead": 0.0}
    svg = charts.heat([(0, {"dead": 0.0, **values}), (10, values)], "gradients")
    assert svg.count('fill="#dc2626"') == 2
    assert "and 6 more tensors" in texts(svg)
    assert "<b>" not in svg
    assert charts.heat([], "gradients") == ""
