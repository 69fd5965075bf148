"""What a cell is, one at a time and thousands at once: both ways must agree."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_byoc.monitor.data.columns import MOST_CATEGORIES, OTHERS, Column, Kind


def column(cells, kind=None):
    made = Column("x", kind=kind)
    made.add(list(cells))
    return made


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "-2", "+3"], Kind.INTEGRAL),
        (["1", "2.5"], Kind.FRACTIONAL),
        (["1e5", "2E-3", "1.5e+2"], Kind.FRACTIONAL),
        (["1", "a"], Kind.STRING),
        (["true", "false"], Kind.STRING),
        (["nan"], Kind.STRING),
        (["inf", "1"], Kind.STRING),
        ([".5"], Kind.STRING),
        (["5."], Kind.STRING),
        (["1_000"], Kind.STRING),
        (["٣"], Kind.STRING),
        (["0x10"], Kind.STRING),
        (["- 5"], Kind.INTEGRAL),
        (["9" * 400], Kind.STRING),
        (["", ""], Kind.UNKNOWN),
        (["0,"], Kind.STRING),
        ([",0", "1"], Kind.STRING),
        (["1,2", ","], Kind.STRING),
    ],
)
def test_kinds(cells, kind):
    """Deequ's regexes; what is not finite as a float is no number either."""
    assert column(cells).inferred is kind


CELLS = st.one_of(
    st.integers().map(str),
    st.floats().map(repr),
    st.decimals().map(str),
    st.text("0123456789.,eE+- ", max_size=6),
    st.sampled_from(["", "true", "a", "1.", ".5", "-", "1,2", "1e5"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(CELLS, min_size=1, max_size=12))
def test_both_ways_agree(cells):
    """All at once gives what each by itself gives."""
    at_once, each = Column("x", kind=Kind.FRACTIONAL), Column("x", kind=Kind.FRACTIONAL)
    at_once.add(cells)
    present = [cell for cell in cells if cell]
    if present:
        each._add_each(present)
    for name in ("integral", "fractional", "boolean", "text"):
        assert getattr(at_once, name) == getattr(each, name), name
    assert sorted(np.concatenate(at_once.sketch.levels)) == sorted(
        np.concatenate(each.sketch.levels)
    )


def test_moments():
    values = np.random.default_rng(0).normal(1e6, 1e-3, size=5000)
    made = Column("x", kind=Kind.FRACTIONAL)
    for part in np.array_split(values, 9):
        made.add([repr(float(value)) for value in part])
    assert made.moments.mean == pytest.approx(values.mean(), rel=1e-14)
    assert made.moments.deviation == pytest.approx(values.std(), rel=1e-6)
    assert (made.moments.least, made.moments.most) == (values.min(), values.max())


def test_values_near_the_end_of_floats_do_not_warn():
    made = column(["1.5e308", "1.7e308", "-1.7e308"])
    assert made.fractional == 3
    assert made.moments.most == 1.7e308
    assert not math.isnan(made.completeness)


def test_many_values_are_estimated():
    made = column(f"id-{number}" for number in range(20_000))
    assert not made.categories.are_counted
    assert made.categories.distinct == pytest.approx(20_000, rel=0.15)
    assert not made.categories.counts


def test_known_categories_are_counted_whatever_comes():
    made = Column("x", kind=Kind.STRING)
    made.categories.known = frozenset({"late"})
    made.add([f"id-{number}" for number in range(3 * MOST_CATEGORIES)])
    made.add(["late"] * 5)
    assert made.categories.counts["late"] == 5
    assert made.categories.counts[OTHERS] > 0
    assert len(made.categories.counts) <= MOST_CATEGORIES + 3
    assert made.categories.counts.total() == made.present
