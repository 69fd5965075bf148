"""Datasets that are tables: what the csv module would say, and what nobody should have to read."""

from __future__ import annotations

import json

import pytest
from tests.unit.monitor.data import PLACES

from sagemaker_byoc.monitor import jobs
from sagemaker_byoc.monitor.errors import DataError, RequestError
from sagemaker_byoc.monitor.jobs import Input
from sagemaker_byoc.monitor.tables import Format


@pytest.fixture
def baseline(tmp_path):
    def make(data, name="data.csv", form=None):
        (tmp_path / name).write_bytes(data)
        found = Input(place=str(tmp_path / name), form=form)
        return jobs.make_baseline(PLACES, found, str(tmp_path / "base"))

    return make


def shape(outcome):
    kinds = {name: each.inferred.value for name, each in outcome.profile.columns.items()}
    return outcome.profile.rows, kinds


@pytest.mark.parametrize(
    "data",
    [
        b"a,b\n1,x\n2,y\n",
        b"\xef\xbb\xbfa,b\r\n1,x\r\n2,y\r\n",
        b" a , b \n 1 , x\n2,y",
        b'"a","b"\n"1","x, z"\n2,"two\nlines"\n',
        b"a,b\n\n1,x\n\n2,y\n\n",
    ],
)
def test_csv(baseline, data):
    assert shape(baseline(data)) == (2, {"a": "Integral", "b": "String"})


def test_without_a_header(baseline):
    assert shape(baseline(b"1,x\n2,y\n")) == (2, {"_c0": "Integral", "_c1": "String"})
    forced = baseline(b"x,y\nz,w\n", form=Format.BARE_CSV)
    assert shape(forced) == (2, {"_c0": "String", "_c1": "String"})


def test_json_lines(baseline):
    lines = [{"a": 1, "b": {"c": 0.5}}, {"a": None, "b": {"c": 2}, "d": True}, {"a": 3}]
    data = b"\n".join(json.dumps(each).encode() for each in lines)
    outcome = baseline(data, name="data.jsonl")
    assert shape(outcome) == (3, {"a": "Integral", "b.c": "Fractional", "d": "String"})
    missing = {name: each.missing for name, each in outcome.profile.columns.items()}
    assert missing == {"a": 1, "b.c": 1, "d": 2}


def test_ragged_rows_are_counted(baseline):
    outcome = baseline(b"a,b\n1,2\n1\n1,2,3\n3,4\n")
    assert outcome.profile.rows == 2
    assert sum(outcome.unread.reasons.values()) == 2


def test_not_utf8(baseline):
    outcome = baseline(b"a,b\n1,\xff\n3,4\n")
    assert outcome.profile.rows == 1
    assert dict(outcome.unread.first) == {"not UTF-8": f"{_place(outcome)}:2"}


def test_a_script_is_not_left_out_silently(tmp_path):
    (tmp_path / "data.csv").write_bytes(b"a,b\n1,2\n")
    found = Input(place=str(tmp_path / "data.csv"), preprocess=tmp_path / "script.py")
    with pytest.raises(RequestError, match="takes captured records"):
        jobs.make_baseline(PLACES, found, str(tmp_path / "base"))


def _place(outcome):
    return next(iter(outcome.unread.first.values())).rpartition(":")[0]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "are all others|is empty"),
        (b"a,b\n", "holds no row"),
        (b"a,a\n1,2\n", "twice"),
        (b'a,b\n"1,2\n3,4\n', "never closed"),
        (b'a,b\n"' + b"x,\n" * 540_000, "is not closed within"),
        (b"a,b\n1," + b'"' + b"x" * 200_000 + b'"\n', "no CSV"),
    ],
)
def test_refused(baseline, data, told):
    with pytest.raises(DataError, match=told):
        baseline(data)
