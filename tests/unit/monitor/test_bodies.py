"""The forms in which rows come: CSV, JSON, several to a record, base64, a table."""

from __future__ import annotations

import base64
import io
import json
import re
from datetime import timedelta

import pytest
from tests.unit.monitor.data import PLACES, TIME, Case, csv_text, people, record

from sagemaker_byoc.contract.capture import Encoding
from sagemaker_byoc.monitor import captures, jobs
from sagemaker_byoc.monitor.captures import CaptureReader
from sagemaker_byoc.monitor.columns import Kind
from sagemaker_byoc.monitor.jobs import Input
from sagemaker_byoc.monitor.layout import Layout
from sagemaker_byoc.monitor.profile import Profile
from sagemaker_byoc.monitor.streams import Window

NAMES = ["age", "income", "plan"]


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path, NAMES, people(600))


def test_json_by_name(case):
    lines = [
        record(json.dumps(dict(zip(NAMES, row, strict=True))), '{"score": 0.5}', kind=Encoding.JSON,
               out=Encoding.JSON, number=number)
        for number, row in enumerate(people(500, seed=1))
    ]  # fmt: skip
    assert case.checks(b"".join(lines)) == []


def test_json_with_another_column_and_without_one(case):
    lines = [
        record(json.dumps({"age": row[0], "income": row[1], "colour": "red"}), kind=Encoding.JSON)
        for row in people(500, seed=1)
    ]
    assert case.checks(b"".join(lines)) == [
        ("Missing columns", "missing_column_check"),
        ("Extra columns", "extra_column_check"),
    ]


def test_columns_as_lists_in_base64(case):
    """A Flask app's answer is text/html unless told otherwise; aws/sagemaker-python-sdk#2629."""
    body = dict(zip(NAMES, map(list, zip(*people(500, seed=1), strict=True)), strict=True))
    text = base64.b64encode(json.dumps(body).encode()).decode()
    outcome = case.run(record(text, None, kind=Encoding.BASE64))
    assert outcome.profile.rows == 500
    assert outcome.findings.violations == []


def test_several_rows_in_one_record(case):
    rows = people(500, seed=1)
    line = record(csv_text(rows), "\n".join(["0.5"] * 500))
    assert case.run(line).profile.rows == 500
    listed = json.dumps({"predictions": [0.5] * 500})
    instances = json.dumps({"instances": rows})
    line = record(instances, listed, kind=Encoding.JSON, out=Encoding.JSON)
    outcome = case.run(line)
    assert outcome.profile.rows == 500
    assert outcome.findings.violations == []


def test_window(case):
    times = TIME, TIME + timedelta(hours=1)
    early, late = (record("30,3000.5,pro", number=n, time=t) for n, t in enumerate(times))
    window = Window(*times)
    outcome = case.run(early * 3 + late, window=window)
    assert outcome.profile.rows == 3


def test_a_csv_instead_of_captures(case):
    data = csv_text([NAMES, *people(500, seed=1)]).encode()
    assert case.checks(data, name="live.csv") == []
    without = csv_text(people(500, seed=1)).encode()
    assert case.checks(without, name="live.csv") == []
    assert case.checks(csv_text([["a"], *[[1]] * 9]).encode(), name="live.csv") == [
        ("Missing columns", "missing_column_check"),
        ("Extra columns", "extra_column_check"),
    ]


GUIDE_RECORD = (
    b'{"captureData":{"endpointInput":{"observedContentType":"text/csv","mode":"INPUT",'
    b'"data":"132,25,113.2,96,269.9,107,,0,0,0,0,0,0,1,0,1,0,0,1","encoding":"CSV"},'
    b'"endpointOutput":{"observedContentType":"text/csv; charset=utf-8","mode":"OUTPUT",'
    b'"data":"0.01076381653547287","encoding":"CSV"}},'
    b'"eventMetadata":{"eventId":"feca1ab1-8025-47e3-8f6a-99e3fdd7b8d9",'
    b'"inferenceTime":"2019-11-20T23:33:12Z"},"eventVersion":"0"}\n'
)
"""model-monitor-pre-and-post-processing: 19 cells in, the seventh empty, and one out."""


def test_the_guides_record(tmp_path):
    (tmp_path / "captures.jsonl").write_bytes(GUIDE_RECORD * 3)
    data = Input(place=str(tmp_path / "captures.jsonl"))
    columns = [*jobs.make_baseline(PLACES, data, str(tmp_path / "base")).profile.columns.values()]
    assert [each.name for each in columns] == [f"_c{place}" for place in range(20)]
    assert columns[0].moments.mean == 0.01076381653547287
    assert [each.name for each in columns if each.completeness < 1] == ["_c7"]
    baseline = jobs.read_baseline(PLACES, str(tmp_path / "base"))
    again = jobs.run(PLACES, data, baseline, str(tmp_path / "out"))
    assert again.findings.violations == []


def through(lines, window=None):
    """Columns, misfits and complaints of captured lines."""
    layout = Layout(("a", "b"))
    reader = CaptureReader(layout, window=window)
    made = Profile({"a": Kind.FRACTIONAL, "b": Kind.STRING})
    for block in reader.blocks(["live"], lambda _: io.BytesIO(b"".join(lines))):
        made.add(block)
    columns = {
        name: (each.present, each.missing, each.moments.total, dict(each.categories.counts))
        for name, each in made.columns.items()
    }
    return made.rows, columns, dict(layout.misfits), reader.unread.reasons, reader.unread.first


NEVER = re.compile(r"(?!)()()()")
LINES = {
    "usual": record("1,x\n", "0.5\n"),
    "later": record("2,x", time=TIME + timedelta(hours=1)),
    "escaped": record('3,"x, y"'),
    "beyond ASCII": record("4,é"),
    "another width": record("5,x,7"),
    "several rows": record("6,x\n7,z\n", "1\n2\n"),
    "carriage returns": record("8,x\r\n", "1\r\n"),
    "input alone": record("9,x", None),
    "JSON": record('{"a": 10, "b": "x"}', kind=Encoding.JSON),
    "cut off": record("11,x")[:150] + b"\n",
    "not UTF-8": b"\xff\n",
    "text behind it": record("12,x")[:-1] + b" nonsense\n",
}


@pytest.mark.parametrize("window", [None, Window(TIME, TIME + timedelta(minutes=1))])
@pytest.mark.parametrize("odd", [None, *LINES])
def test_all_ways_of_reading_agree(monkeypatch, odd, window):
    """Lines that all look as usual are read at once; the slowest way must see the same."""
    lines = [LINES["usual"]] * 40 + ([LINES[odd]] if odd else [*LINES.values()])
    fast = through(lines, window)
    monkeypatch.setattr(captures, "_HABITUAL", NEVER)
    parsed = through(lines, window)
    monkeypatch.setattr(captures, "_parsed", lambda _: None)
    assert fast == parsed == through(lines, window)


def test_what_this_project_writes_is_read_at_once(monkeypatch):
    """Or the figures of the benchmark would not hold."""
    monkeypatch.setattr(captures, "_parsed", pytest.fail)
    assert through([LINES["usual"]] * 40)[0] == 40
