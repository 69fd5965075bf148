"""Which rows a JSON document, or what Python code returns, stands for."""

from __future__ import annotations

import json
from collections import namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import numpy as np
import pytest

from sagemaker_byoc.monitor.inputs.documents import UnreadableError, document_rows
from sagemaker_byoc.monitor.inputs.payloads import plain

NAMED = [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}]
OBJECTS = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
BARE = [["1", "x"], ["2", "y"]]
LISTS = [[1, "x"], [2, "y"]]


def tensor(name, shape, data, kind="FP32"):
    return {"name": name, "shape": shape, "datatype": kind, "data": data}


@pytest.mark.parametrize(
    ("document", "rows"),
    [
        # lists and objects
        (LISTS, BARE),
        (OBJECTS, NAMED),
        (OBJECTS[0], NAMED[:1]),
        ([1, "x"], BARE[:1]),
        ([[1, "x"]], BARE[:1]),
        ([[[1, 2], [3, 4]]], [["1", "2", "3", "4"]]),
        ([1, [2, 3]], [["1", "2", "3"]]),
        ([{"a": 1, "b": "x"}, None], NAMED[:1]),
        (7, [["7"]]),
        ("x", [["x"]]),
        ([], []),
        ({}, []),
        ([True, False, None, float("nan"), "True"], [["true", "false", "", "", "true"]]),
        # the table under a key, with other things beside it
        ({"instances": LISTS}, BARE),
        ({"signature_name": "serving_default", "instances": LISTS}, BARE),
        ({"instances": OBJECTS, "parameters": {"x": 1}}, NAMED),
        ({"instances": [{"features": [1, 2]}]}, [{"features_0": "1", "features_1": "2"}]),
        ({"features": [1, 2]}, [{"features_0": "1", "features_1": "2"}]),
        ({"features": [1, 2], "label": 1}, [{"features_0": "1", "features_1": "2", "label": "1"}]),
        ({"instances": [1, 2]}, [["1"], ["2"]]),
        ({"instances": []}, []),
        ({"predictions": [0.5, 0.25], "model_version": "3"}, [["0.5"], ["0.25"]]),
        ({"predictions": [[0.5, 0.5]], "took_ms": 3, "ids": ["r"]}, [["0.5", "0.5"]]),
        ({"predictions": [[0.5, 0.5]], "ids": ["r"]},
         [{"predictions_0": "0.5", "predictions_1": "0.5", "ids": "r"}]),
        ({"predictions": ["x", "y"], "score": [1, 2]},
         [{"predictions": "x", "score": "1"}, {"predictions": "y", "score": "2"}]),
        ({"inputs": LISTS}, BARE),
        ({"inputs": {"a": [1, 2], "b": ["x", "y"]}}, NAMED),
        ({"signature_name": "s", "inputs": {"a": [1, 2], "b": ["x", "y"]}}, NAMED),
        ({"outputs": [0.5, 0.25], "model": "m"}, [["0.5"], ["0.25"]]),
        ({"data": LISTS, "version": 1}, BARE),
        ({"data": 1, "b": "x"}, [{"data": "1", "b": "x"}]),
        ({"scores": [1, 2]}, [["1"], ["2"]]),
        ({"records": OBJECTS, "count": 2}, NAMED),
        # columns
        ({"a": [1, 2], "b": ["x", "y"]}, NAMED),
        ({"a": {"b": 1}, "c": [2, 3]}, [{"a.b": "1", "c_0": "2", "c_1": "3"}]),
        # pandas and MLflow
        ({"columns": ["a", "b"], "data": LISTS}, NAMED),
        ({"columns": ["a", "b"], "index": [0, 1], "data": LISTS}, NAMED),
        ({"dataframe_split": {"columns": ["a", "b"], "data": LISTS}}, NAMED),
        ({"dataframe_records": OBJECTS}, NAMED),
        ({"inputs": {"dataframe_split": {"columns": ["a", "b"], "data": LISTS}}}, NAMED),
        ({"data": {"instances": OBJECTS}}, NAMED),
        ({"data": {"names": ["a", "b"], "ndarray": LISTS}, "meta": {}}, NAMED),
        ({"instances": [{"data": {"features": {"values": [1, 2]}}}]},
         [{"data.features.values_0": "1", "data.features.values_1": "2"}]),
        ({"inputs": {"a": 1, "b": "x"}}, [{"inputs.a": "1", "inputs.b": "x"}]),
        ({"a": {"0": 1, "1": 2}, "b": {"0": "x", "1": "y"}}, NAMED),
        ({"a": {"7": 1}, "b": {"7": "x"}}, NAMED[:1]),
        ({"0": OBJECTS[0], "1": OBJECTS[1]}, NAMED),
        ({"schema": {"fields": [{"name": "index"}, {"name": "a"}, {"name": "b"}],
                     "primaryKey": ["index"], "pandas_version": "1.4.0"},
          "data": [{"index": n, **row} for n, row in enumerate(OBJECTS)]}, NAMED),
        # tensors of the V2 protocol
        ({"id": "7", "inputs": [tensor("a", [2], [1, 2], "INT64"),
                                tensor("b", [2, 1], ["x", "y"], "BYTES")]}, NAMED),
        ({"model_name": "m", "model_version": "1", "outputs": [tensor("p", [2, 1], [0.5, 0.25])]},
         [{"p": "0.5"}, {"p": "0.25"}]),
        ({"inputs": [tensor("input-0", [2, 2], [1, 2, 3, 4])]}, [["1", "2"], ["3", "4"]]),
        ({"inputs": [tensor("input-0", [2, 2], [[1, 2], [3, 4]])]}, [["1", "2"], ["3", "4"]]),
        ({"inputs": [tensor("a", [1, 2], [1, 2]), tensor("f", [1], [True], "BOOL")]},
         [{"a_0": "1", "a_1": "2", "f": "true"}]),
        ({"inputs": [tensor("a", [], [1])]}, [{"a": "1"}]),
        ({"inputs": [tensor("a", [0, 3], [])]}, []),
    ],
)  # fmt: skip
def test_rows(document, rows):
    assert [*document_rows(document)] == rows


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"inputs": [tensor("a", [3], [1, 2])]}, "shape and number of values differ"),
        ({"inputs": [tensor("a", [10**18, 10**18], [1])]}, "shape and number of values differ"),
        ({"inputs": [tensor("a", "x", [1])]}, "not a list of sizes"),
        ({"inputs": [tensor("a", [-1], [1])]}, "not a list of sizes"),
        ({"inputs": [tensor("a", [1], None)]}, "no `data` in JSON"),
        ({"inputs": [tensor("a", [1], [1]), tensor("b", [2], [1, 2])]}, "numbers of rows"),
        ({"columns": ["a"], "data": [[1, 2]]}, "another number of cells"),
        ({"columns": ["a"], "data": [7]}, "another number of cells"),
        ({"schema": {"fields": []}, "data": [7]}, "not an object"),
    ],
)  # fmt: skip
def test_documents_that_are_not_a_table(document, told):
    with pytest.raises(UnreadableError, match=told):
        [*document_rows(document)]


Pair = namedtuple("Pair", "a b")


@dataclass
class Person:
    a: int
    b: str


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        (np.float64(0.5), [["0.5"]]),
        (np.int64(3), [["3"]]),
        (np.array(3), [["3"]]),
        ({"a": np.float32(0.1), "b": np.bool_(True)}, [{"a": "0.1", "b": "true"}]),
        ([Decimal("2.50"), Decimal("NaN"), Fraction(1, 2)], [["2.50", "", "0.5"]]),
        (np.array([[1, 2], [3, 4]]), [["1", "2"], ["3", "4"]]),
        (np.array([0.1, 0.2], "float32"), [["0.1", "0.2"]]),
        (np.array([(1, 2.5)], [("a", int), ("b", float)]), [{"a": "1", "b": "2.5"}]),
        (np.array([1, "x"], object), BARE[:1]),
        ({"a": np.array([1, 2]), "b": {"c": np.int8(1)}}, [{"a_0": "1", "a_1": "2", "b.c": "1"}]),
        ((1, "x"), BARE[:1]),
        (({"a": n, "b": t} for n, t in LISTS), NAMED),
        (map(int, "12"), [["1", "2"]]),
        (range(2), [["0", "1"]]),
        ({"a": 1}.values(), [["1"]]),
        (Pair(1, "x"), NAMED[:1]),
        (Person(1, "x"), NAMED[:1]),
        ({1: 2}, [{"1": "2"}]),
        (b"x", [["x"]]),
        ([np.str_("x"), UUID(int=1)], [["x", "00000000-0000-0000-0000-000000000001"]]),
        ([date(2020, 1, 2), datetime(2020, 1, 2, 3, tzinfo=UTC), np.datetime64("2020-01-02")],
         [["2020-01-02", "2020-01-02T03:00:00+00:00", "2020-01-02"]]),
        ([timedelta(minutes=1), np.timedelta64(1, "m"), np.datetime64("NaT")],
         [["60.0", "60.0", ""]]),
    ],
)  # fmt: skip
def test_what_python_returns(value, rows):
    assert [*document_rows(plain(value))] == rows


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (1j, r"type complex is not data \(at the top\)"),
        ({"a": [1, object()]}, r"type object is not data \(at \['a'\]\[1\]\)"),
        ({"a": {1, 2}}, "type set is not data, as it has no order"),
        ([b"\xff"], "type bytes is not data, as they are not UTF-8"),
        (iter(int, 1), "more than 1,000,000 items"),
        (len, "builtin_function_or_method is not data"),
    ],
)
def test_what_is_not_data(value, told):
    with pytest.raises(UnreadableError, match=told):
        plain(value)


@pytest.mark.parametrize("way", ["to_dicts", "to_pylist", "as_py", "model_dump", "toarray"])
def test_other_libraries_by_their_own_way_out(way):
    """polars, pyarrow, pydantic and scipy, without any of them."""
    thing = type("Thing", (), {way: lambda _: OBJECTS})()
    assert [*document_rows(plain(thing))] == NAMED


class TestWithPandas:
    @pytest.fixture
    def frame(self):
        pandas = pytest.importorskip("pandas", reason="pandas is the user's to install")
        return pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})

    def test_frames_and_series(self, frame):
        assert [*document_rows(plain(frame))] == NAMED
        assert [*document_rows(plain(frame.iloc[0]))] == NAMED[:1]
        assert [*document_rows(plain(frame["a"]))] == [["1", "2"]]
        assert [*document_rows(plain(frame.values))] == BARE
        assert [*document_rows(plain(frame.iloc[:0]))] == []

    @pytest.mark.parametrize("orient", ["split", "records", "index", "columns", "table"])
    def test_its_json(self, frame, orient):
        assert [*document_rows(json.loads(frame.to_json(orient=orient)))] == NAMED

    def test_missing_values_and_times(self, frame):
        pandas = pytest.importorskip("pandas")
        frame["t"] = [pandas.Timestamp("2020-01-02"), pandas.NaT]
        frame["n"] = pandas.array([1, None], "Int64")
        first, second = document_rows(plain(frame))
        assert (first["t"], first["n"]) == ("2020-01-02T00:00:00", "1")
        assert (second["t"], second["n"]) == ("", "")
