"""Batches of declared sizes: filled up, cut back, warmed before the first request."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.serving.harness import Server

from sagemaker_byoc.serving.worker import batches
from sagemaker_byoc.serving.worker.code import handlers
from sagemaker_byoc.serving.worker.code.handlers import HandlerError

SIZES = (1, 4, 16)


class Counts:
    """A model that doubles, and knows the shapes that it saw."""

    def __init__(self, make=lambda rows: 2 * rows):
        self.seen = []
        self.make = make

    def __call__(self, data):
        self.seen.append(batches.rows_of(data))
        return self.make(data)


@given(st.integers(1, 50))
def test_any_number_of_rows(count):
    """The model sees declared sizes only, and each row gets its own answer."""
    call = Counts()
    rows = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    np.testing.assert_array_equal(batches.run(call, rows, SIZES), 2 * rows)
    assert set(call.seen) <= set(SIZES)
    assert len(call.seen) == -(-count // 16)


@pytest.mark.parametrize(
    ("data", "make"),
    [
        ({"a": np.ones((3, 2)), "b": np.ones((3, 1))}, lambda data: {"sum": data["a"] + data["b"]}),
        ((np.ones((18, 2)), np.ones((18, 2))), lambda data: (data[0], data[1])),
        (np.ones((18, 2)), lambda data: [str(row) for row in data]),
    ],
)
def test_other_forms(data, make):
    """Dicts, tuples and lists of rows."""
    call = Counts(make)
    result, expected = batches.run(call, data, SIZES), make(data)
    assert str(result) == str(expected)
    assert set(call.seen) <= set(SIZES)


@pytest.mark.parametrize("data", [np.ones(3), np.ones((0, 2)), "text"])
def test_without_rows(data):
    """What has no rows is none of a bucket's business."""
    assert batches.run(lambda value: value, data, SIZES) is data


def test_wrong_output():
    """A model that loses rows gets an error."""
    with pytest.raises(batches.BatchError, match="rows"):
        batches.run(lambda data: data[:1], np.ones((3, 2)), SIZES)


def test_warm_up():
    """Every size once; an example that has no rows is an error."""
    call = Counts()
    batches.warm_up(call, np.ones((3, 2)), SIZES)
    assert call.seen == [1, 4, 16]
    with pytest.raises(batches.BatchError, match="example_input"):
        batches.warm_up(call, np.ones(3), SIZES)


@pytest.mark.parametrize(
    ("value", "part"), [((1, 4), "example_input"), ((0, 4), "1 to"), (4, "1 to"), ((True,), "1 to")]
)
def test_declaration(value, part):
    """What is declared wrongly ends the start, with the hint."""
    module = ModuleType("m")
    module.batch_buckets = value
    with pytest.raises(HandlerError, match=part):
        handlers._buckets(module)


@pytest.mark.slow
def test_served(tmp_path):
    """Warm before /ping is 200, and never another shape after it."""
    with Server(tmp_path, "buckets") as server:
        server.wait_ready()
        shapes = tmp_path / "shapes"
        assert shapes.read_text() == "(1, 2)\n(4, 2)\n(8, 2)\n"
        assert "batches of 1, 4, 8 rows are warm" in server.log

        def ask(number):
            rows = [[number, row] for row in range(1 + number % 10)]
            reply = server.invoke(json.dumps(rows).encode())
            assert json.loads(reply.body) == [[2 * a, 2 * b] for a, b in rows]

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(100)))
        assert set(shapes.read_text().splitlines()) == {"(1, 2)", "(4, 2)", "(8, 2)"}


@pytest.mark.slow
def test_compiled():
    """torch.compile compiles once a bucket, and not for the numbers of rows between them."""
    torch = pytest.importorskip("torch")
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    counter = CompileCounter()
    model = torch.compile(torch.nn.Linear(2, 3), backend=counter, dynamic=False)
    with torch.inference_mode():
        batches.warm_up(model, torch.zeros(1, 2), SIZES)
        warm = counter.frame_count
        for count in range(1, 40):
            assert batches.run(model, torch.ones(count, 2), SIZES).shape == (count, 3)
    assert warm == counter.frame_count == len(SIZES)
