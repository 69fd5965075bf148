"""The forms in which rows come: CSV, JSON, several to a record, base64, a table."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
from datetime import timedelta

import numpy as np
import pytest
from tests.unit.monitor.cases import (
    PLACES,
    TIME,
    Case,
    captured,
    csv_text,
    people,
    read_baseline,
    record,
)

from sagemaker_byoc.contract.capture import Encoding
from sagemaker_byoc.monitor import jobs
from sagemaker_byoc.monitor.data.columns import Kind
from sagemaker_byoc.monitor.data.statistics import Profile
from sagemaker_byoc.monitor.inputs import captures
from sagemaker_byoc.monitor.inputs.captures import CaptureReader
from sagemaker_byoc.monitor.inputs.layout import Layout, Outputs
from sagemaker_byoc.monitor.inputs.streams import Window
from sagemaker_byoc.monitor.places import Input

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


IN, OUT = [[30, 3000.5, "pro"], [40, 2000.5, "basic"]], '{"predictions":[0.5,0.25],"version":"3"}'
NAMES_IN = [dict(zip(NAMES, row, strict=True)) for row in IN]


def tensors(rows):
    kinds = zip(NAMES, ("INT64", "FP64", "BYTES"), zip(*rows, strict=True), strict=True)
    return [{"name": n, "datatype": t, "shape": [2], "data": [*d]} for n, t, d in kinds]


@pytest.mark.parametrize(
    "request_",
    [
        {"signature_name": "serving_default", "instances": IN},
        {"instances": [{"features": row} for row in IN]},
        {"instances": NAMES_IN, "id": 7},
        {"inputs": dict(zip(NAMES, map(list, zip(*IN, strict=True)), strict=True)), "x": "y"},
        {"columns": NAMES, "index": [0, 1], "data": IN},
        {name: {"0": a, "1": b} for name, a, b in zip(NAMES, *IN, strict=True)},
        {"id": "1", "inputs": tensors(IN)},
        {"rows": IN, "client": "é\u2028\u0085"},
        [{f"feature{n:010}": value for n, value in enumerate(row)} for row in IN],
        [{str(n).zfill(20): value for n, value in enumerate(row)} for row in IN],
        [{f"x{n}": row[n - 1] for n in (3, 1, 2)} for row in IN],
        {"instances": [{"data": {"features": {"values": row}}} for row in IN]},
        {"instances": [{name: [value] for name, value in row.items()} for row in NAMES_IN]},
        {"inputs": {"dataframe_split": {"columns": NAMES, "data": IN}}},
        "lines",
        "lines in base64",
        "twice",
        "gzip",
        "utf-16",
    ],
)
def test_shapes_of_requests(case, request_):
    """Each is the same two rows, whatever stands beside them and however they were sent."""
    text, kind = json.dumps(request_, ensure_ascii=False), Encoding.JSON
    if isinstance(request_, str):
        text = "\n".join(json.dumps({**row, "plan": row["plan"]}) for row in NAMES_IN)
    if request_ == "twice":
        text = json.dumps(json.dumps(NAMES_IN))
    packed = {
        "lines in base64": text.encode(),
        "gzip": gzip.compress(text.encode()),
        "utf-16": text.encode("utf-16"),
    }
    if request_ in ("lines in base64", "gzip", "utf-16"):
        text, kind = base64.b64encode(packed[request_]).decode(), Encoding.BASE64
    outcome = case.run(record(text, OUT, kind=kind, out=Encoding.JSON))
    assert outcome.unread.count == 0
    assert outcome.profile.rows == 2
    columns = outcome.profile.columns
    assert [*columns] == NAMES
    assert columns["age"].moments.total == 70
    assert columns["income"].moments.total == 5001
    assert columns["plan"].categories.counts == {"pro": 1, "basic": 1}


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\x0b", "\x1c"])
def test_json_lines_end_with_a_line_feed_alone(case, separator):
    rows = [{**row, "plan": f"a{separator}b"} for row in NAMES_IN]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    text = base64.b64encode(text.encode()).decode()
    outcome = case.run(record(text, None, kind=Encoding.BASE64))
    assert outcome.unread.count == 0
    assert outcome.profile.columns["plan"].categories.counts == {f"a{separator}b": 2}


@pytest.mark.parametrize("content_type", ["Application/JSON", "application/json; charset=UTF-8"])
def test_content_types(case, content_type):
    line = json.loads(record(base64.b64encode(b"[30, 1.5, 7]").decode(), kind=Encoding.BASE64))
    line["captureData"]["endpointInput"]["observedContentType"] = content_type
    outcome = case.run(json.dumps(line).encode())
    assert outcome.profile.columns["income"].moments.total == 1.5


def test_an_array_of_numpy(tmp_path):
    """As the shadow tests among AWS's examples send them; a pickle in one is not loaded."""
    made = Case(tmp_path, ["a", "b"], [[1, 2.5]] * 9)
    for array, rows in ((np.array([[1, 0.5], [2, 0.25]]), 2), (np.array([[{}]]), 0)):
        body = io.BytesIO()
        np.save(body, array)
        line = record(base64.b64encode(body.getvalue()).decode(), kind=Encoding.BASE64)
        outcome = made.run(line + captured([[1, 2.5]] * 2))
        assert outcome.profile.rows == rows + 2
        assert not any(each.check == "data_type_check" for each in outcome.findings.violations)
        assert outcome.unread.count == (not rows)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [("1\n2\n3", Encoding.CSV), ("{", Encoding.JSON), ("/w==", Encoding.BASE64)],
)
def test_answers_that_no_column_is_left_for(case, answer, kind):
    """The inputs fill the baseline's columns, so nothing depends on what the model said."""
    outcome = case.run(record(csv_text(IN), answer, out=kind))
    assert (outcome.profile.rows, outcome.unread.count) == (2, 0)


def test_inputs_and_outputs_that_differ_in_number(tmp_path):
    case = Case(tmp_path, ["score", "a"], [[0.5, 1]] * 9, outputs=Outputs.START)
    good = captured([[1]])
    lines = [record("1\n2\n3", "0.5\n0.5"), record("1\n2", "0.5\n0.5\n0.5"), good, good]
    outcome = case.run(b"".join(lines))
    assert outcome.profile.rows == 2
    ((reason, count),) = outcome.unread.reasons.items()
    assert (reason, count) == ("input and output differ in their number of rows", 2)
    assert outcome.unread.first[reason].endswith("live.jsonl:1: 3 rows in, 2 rows out")


@pytest.mark.parametrize("place", [Outputs.START, Outputs.END])
@pytest.mark.parametrize("names_inputs", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        {"predictions": [0.5, 0.25], "model_version": "3"},
        {"predictions": [[0.5], [0.25]]},
        {"predictions": [{"score": 0.5}, {"score": 0.25}], "model": "m"},
        [0.5, 0.25],
        {"outputs": [{"name": "output-0", "shape": [2], "datatype": "FP32", "data": [0.5, 0.25]}]},
        {"label": [0.5, 0.25]},
        "0.5\n0.25\n",
    ],
)
def test_answers_beside_inputs(tmp_path, place, names_inputs, answer):
    """The cells of an answer of any shape go into the baseline's column for them."""
    rows = [[1, 2], [3, 4]]
    names, data = ["label", "a", "b"], [[0.5, 1, 2], [0.25, 3, 4]]
    if place is Outputs.END:
        names, data = [*names[1:], names[0]], [[*row[1:], row[0]] for row in data]
    case = Case(tmp_path, names, data * 9, outputs=place)
    body = [{"a": a, "b": b} for a, b in rows] if names_inputs else rows
    out = Encoding.CSV if isinstance(answer, str) else Encoding.JSON
    said = answer if isinstance(answer, str) else json.dumps(answer)
    outcome = case.run(record(json.dumps({"instances": body}), said, kind=Encoding.JSON, out=out))
    assert outcome.unread.count == 0
    totals = {name: each.moments.total for name, each in outcome.profile.columns.items()}
    assert totals == {"label": 0.75, "a": 4, "b": 6}


def test_numbered_names_of_inputs_and_outputs(tmp_path):
    """`{**input_data, **output_data}`, as AWS's samples return them: outputs come second."""
    case = Case(tmp_path, ["score", "a", "b"], [[0.5, 1, 2]] * 9, outputs=Outputs.START)
    row = {"feature0": 1, "feature1": 2, "prediction0": 0.5}
    outcome = case.run(record(json.dumps(row), None, kind=Encoding.JSON) * 9)
    assert outcome.findings.violations == []
    assert outcome.profile.columns["score"].moments.mean == 0.5


def test_names_with_a_number_that_are_not_numbered(case):
    """One unknown name is a new column, and not the place of the missing one."""
    body = json.dumps({"age": 30, "income": 1.5, "plan2": "pro"})
    found = case.checks(record(body, None, kind=Encoding.JSON))
    assert [check for _, check in found] == ["missing_column_check", "extra_column_check"]


def test_pandas_spelling_of_booleans(tmp_path):
    case = Case(tmp_path, ["a", "b"], [[True, 1], [False, 2]] * 99)
    live = record("True,1") + record('{"a": false, "b": 2}', kind=Encoding.JSON)
    live += record('"False",2') + record('{"a": "True", "b": 1}', kind=Encoding.JSON)
    outcome = case.run(live * 50)
    assert outcome.findings.violations == []
    assert outcome.profile.columns["a"].categories.counts == {"true": 100, "false": 100}


def test_an_array_of_records(case):
    lines = [json.loads(record("30,1.5,pro", number=n)) for n in range(3)]
    outcome = case.run(json.dumps(lines).encode())
    assert (outcome.profile.rows, outcome.unread.count) == (3, 0)


def test_csv_with_a_header_in_each_body(case):
    """`df.to_csv(index=False)`: the names of the body count, in its order."""
    body = csv_text([NAMES[::-1], *(row[::-1] for row in IN)])
    outcome = case.run(record(body, "0.5\n0.5") + record(csv_text(IN), "0.5\n0.5"))
    assert (outcome.profile.rows, outcome.unread.count) == (4, 0)
    assert outcome.profile.columns["age"].moments.total == 140


def test_window(case):
    times = TIME, TIME + timedelta(hours=1)
    early, late = (record("30,3000.5,pro", number=n, time=t) for n, t in enumerate(times))
    window = Window(*times)
    outcome = case.run(early * 3 + late, window=window)
    assert outcome.profile.rows == 3
    assert outcome.unread.outside == 1


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
    columns = [
        *jobs.make_data_baseline(PLACES, data, str(tmp_path / "base")).profile.columns.values()
    ]
    assert [each.name for each in columns] == [f"_c{place}" for place in range(20)]
    assert columns[0].moments.mean == 0.01076381653547287
    assert [each.name for each in columns if each.completeness < 1] == ["_c7"]
    baseline = read_baseline(str(tmp_path / "base"))
    again = jobs.run_data(PLACES, data, baseline, str(tmp_path / "out"))
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
    "brackets": record("[13,x]"),
    "half a pair": record('14,"\\ud800"').replace(b"\\\\ud800", b"\\ud800"),
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
    bare = record("1,2", "0.5").replace(b'"text/csv"', b"null")
    assert through([bare] * 40)[0] == 40


WIDE = {"a": 1, "b": 2.5, "c": 0}


@pytest.mark.parametrize(
    "document",
    [
        {"inputs": WIDE, "parameters": {"k": 1}},
        {"data": WIDE},
        {"features": WIDE},
        {"payload": WIDE, "user": {"c": 7}, "request_id": "x"},
        {"input_data": {"columns": ["a", "b", "c"], "index": [0], "data": [[1, 2.5, 0]]}},
        {"input_data": [{"fields": ["a", "b", "c"], "values": [[1, 2.5, 0]]}]},
        {"feature_names": ["a", "b", "c"], "values": [1, 2.5, 0]},
        {"Inputs": {"data": [WIDE]}, "GlobalParameters": {}},
        {"features": [1, 2.5, 0], "request_id": "x", "version": 3},
    ],
)
@pytest.mark.parametrize("encoding", [Encoding.JSON, Encoding.CSV])
def test_columns_below_a_key(tmp_path, document, encoding):
    """Also if the endpoint's settings call JSON a CSV."""
    case = Case(tmp_path, ["a", "b", "c"], [[n, n / 7, n % 3] for n in range(300)])
    outcome = case.run(record(json.dumps(document), "[0.5]", kind=encoding, out=Encoding.JSON))
    totals = {name: each.moments.total for name, each in outcome.profile.columns.items()}
    assert totals == WIDE
    assert outcome.findings.violations == []


def test_a_key_above_the_columns_is_said(tmp_path):
    case = Case(tmp_path, ["a", "b"], [[n, n / 7] for n in range(300)])
    line = record('{"inputs": {"a": 1, "b": 2.5}}', kind=Encoding.JSON)
    notices = case.run(line * 3).unread.notices
    assert notices == {"rows had their columns below the key 'inputs'": 3}


@pytest.mark.parametrize(
    "body", ["1;2.5;0", "1\t2.5\t0", "1|2.5|0", "\ufeff1,2.5,0", ",a,b,c\n0,1,2.5,0\n"]
)
def test_csv_of_other_kinds_in_a_body(tmp_path, body):
    case = Case(tmp_path, ["a", "b", "c"], [[n, n / 7, n % 3] for n in range(300)])
    outcome = case.run(record(body, "0.5") * 2)
    totals = {name: each.moments.total for name, each in outcome.profile.columns.items()}
    assert totals == {"a": 2, "b": 5, "c": 0}
    assert [what for what in outcome.unread.notices if "separated" in what] == (
        [f"bodies are separated by {body[1]!r}"] if body[1] in ";\t|" else []
    )


def test_text_with_a_semicolon_stays_one_cell(tmp_path):
    case = Case(tmp_path, ["a"], [[f"some; words {n % 7}"] for n in range(300)])
    outcome = case.run(record("some; words 3", None) * 5)
    assert (outcome.profile.rows, outcome.findings.violations) == (5, [])


@pytest.mark.parametrize("body", ["MSwyLjU", "MSwy\nLjU=\n", "MSwyLjU="])
def test_base64_as_others_write_it(tmp_path, body):
    case = Case(tmp_path, ["a", "b"], [[n, n / 7] for n in range(300)])
    outcome = case.run(record(body, None, kind=Encoding.BASE64))
    assert (outcome.profile.rows, outcome.unread.count) == (1, 0)


def test_libsvm_is_called_by_name(tmp_path):
    case = Case(tmp_path, ["a", "b"], [[n, n / 7] for n in range(300)])
    body = base64.b64encode(b"1 0:2 1:3").decode()
    line = record(body, None, kind=Encoding.BASE64).replace(b"text/html", b"text/x-libsvm")
    outcome = case.run(captured([[1, 0.5]] * 3) + line)
    assert outcome.unread.reasons == {"LIBSVM, which has no columns": 1}


def test_a_side_without_data(tmp_path):
    case = Case(tmp_path, ["a", "b"], [[n, n / 7] for n in range(300)])
    line = json.loads(record("1,2.5", "0.5"))
    line["captureData"]["endpointOutput"] |= dict.fromkeys(("data", "encoding"))
    outcome = case.run(json.dumps(line).encode())
    assert (outcome.profile.rows, outcome.unread.count) == (1, 0)


def test_rows_without_cells(tmp_path):
    case = Case(tmp_path, ["a", "b"], [[n, n / 7] for n in range(300)])
    outcome = case.run(record("[[], [1, 2.5]]", None, kind=Encoding.JSON) + captured([[1, 2.5]]))
    assert outcome.profile.columns["a"].moments.total == 2
