"""Datasets that are tables: what the csv module would say, and what nobody should have to read."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import json
import lzma
import zipfile
import zlib
from importlib.util import find_spec

import pytest
from tests.unit.monitor.cases import PLACES, Case, csv_text

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.monitor import jobs
from sagemaker_byoc.monitor.inputs.delimited import separator_of
from sagemaker_byoc.monitor.inputs.layout import Outputs
from sagemaker_byoc.monitor.inputs.streams import DataError
from sagemaker_byoc.monitor.inputs.tables import Format
from sagemaker_byoc.monitor.places import Input


@pytest.fixture
def baseline(tmp_path):
    def make(data, name="data.csv", form=None):
        (tmp_path / name).write_bytes(data)
        found = Input(place=str(tmp_path / name), form=form)
        return jobs.make_data_baseline(PLACES, found, str(tmp_path / "base"))

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
    """Windows-1252, as in most such files; it is said."""
    outcome = baseline(b"a,b\n1,caf\xe9 \x80\x81\n3,x\n")
    assert outcome.profile.rows == 2
    assert set(outcome.profile.columns["b"].categories.counts) == {"café €\ufffd", "x"}
    assert outcome.unread.notices == {"lines are not UTF-8, and were read as Windows-1252": 1}


def test_a_script_is_not_left_out_silently(tmp_path):
    (tmp_path / "data.csv").write_bytes(b"a,b\n1,2\n")
    found = Input(place=str(tmp_path / "data.csv"), preprocess=tmp_path / "script.py")
    with pytest.raises(RequestError, match="takes captured records"):
        jobs.make_data_baseline(PLACES, found, str(tmp_path / "base"))


def test_a_quote_that_is_never_closed_costs_its_line(baseline):
    """Also if the end of the file is far away: one stray quote is not the whole file."""
    for rows in (3, 12_000):
        outcome = baseline(b'a,b\n"1,2\n' + b"3,%s\n" % (b"x" * 100) * rows)
        assert outcome.profile.rows == rows
        assert dict(outcome.unread.reasons) == {"a quote that is never closed": 1}
        assert outcome.unread.first["a quote that is never closed"].endswith("data.csv:2")


def test_a_quote_within_a_cell_is_a_character(baseline):
    outcome = baseline(b'a,b\n1,5" pipe\n2,"6"" pipe"\n3,x\n')
    assert (outcome.profile.rows, outcome.unread.count) == (3, 0)
    assert set(outcome.profile.columns["b"].categories.counts) == {'5" pipe', '6" pipe', "x"}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "holds no record"),
        (b"a,b\n", "holds no record"),
        (b"a,a\n1,2\n", "the column name 'a' twice"),
        (b'a,b\n"1,2\n', "never closed"),
        (b"a,b\n1," + b'"' + b"x" * 200_000 + b'"\n', "CSV: field larger"),
    ],
)
def test_refused(baseline, data, told):
    with pytest.raises(DataError, match=told):
        baseline(data)


# ── other kinds of files, recognised by their content ──

ROWS = 'a;b\n1;x\n2;"y; z"\n'
TWO = (2, {"a": "Integral", "b": "String"})


def workbook():
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    return made.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        ROWS.encode(),
        ROWS.replace(";", "\t").encode(),
        ROWS.replace(";", "|").encode(),
        ROWS.replace(";", ",").encode("utf-16"),
        ROWS.encode("utf-16-le"),
        ROWS.encode("utf-16-be"),
        ROWS.encode("utf-32"),
        codecs.BOM_UTF8 + ROWS.encode(),
        b"sep=;\r\n" + ROWS.replace("\n", "\r\n").encode(),
        ROWS.replace("\n", "\r").encode(),
        gzip.compress(ROWS.encode()),
        gzip.compress(ROWS.encode("utf-16")),
        bz2.compress(ROWS.encode()),
        lzma.compress(ROWS.encode()),
        b'{"a": 1, "b": "x"}\n{"a": 2, "b": "y"}',
        b'[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]',
        b'[\n  {"a": 1, "b": "x"},\n  {"a": 2, "b": "y"}\n]\n',
        b'{\n "instances": [\n  {"a": 1, "b": "x"},\n  {"a": 2, "b": "y"}\n ],\n "v": 1}',
        b'{"a": [1, 2], "b": ["x", "y"]}',
        b'{"columns": ["a", "b"], "data": [[1, "x"], [2, "y"]]}',
    ],
)
def test_recognised(baseline, data):
    outcome = baseline(data)
    assert shape(outcome) == TWO
    assert outcome.unread.count == 0


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("a,b\n1,x|y\n2,z|q\n", ","),
        ("a;b\n1,5;x\n2;y\n", ";"),
        ("1,5;2,5\n3,5;4,5\n", ";"),
        ("1,2\n3,4\n", ","),
        ("a\n1\n", ","),
        ("name\tnote\nx\ta, b\ny\tc\n", "\t"),
        ('a,b\n"x;y",1\n"z;q",2\n', ","),
        ("a;b\n1;2\n3\n", ","),
    ],
)
def test_what_separates_cells(text, separator):
    assert separator_of(text.splitlines()) == separator


def test_numbers_with_separators_of_thousands_stay_text(baseline):
    """`1,234` is a thousand in one country and a fraction in another."""
    assert shape(baseline(b"a;b\n1,234;1\n2,345;2\n")) == (2, {"a": "String", "b": "Integral"})


def test_a_separator_is_said(baseline):
    assert baseline(ROWS.encode()).unread.notices == {"files are separated by ';'": 1}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (workbook(), "a ZIP archive, or an Excel workbook"),
        (b"\x28\xb5\x2f\xfd123", "compressed with zstd"),
        (b"Obj\x01" + b"\0" * 99, "an Avro file"),
        (b"\x80\x04\x95\x00\x00\x00\x00abc", "binary"),
        (gzip.compress(b"a,b\n1,2\n" * 999)[:12], "cut off or damaged"),
        (b"\x1f\x8bnonsense", "cut off or damaged"),
    ],
)
def test_what_is_not_a_table_is_named(baseline, data, told):
    with pytest.raises(DataError, match=told):
        baseline(data)


def test_a_cut_file_among_others_costs_its_end(tmp_path):
    text = b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(20_000))
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "1.csv").write_bytes(text)
    (folder / "2.csv.gz").write_bytes(gzip.compress(text)[:50_000])
    (folder / "3.zip").write_bytes(workbook())
    outcome = jobs.make_data_baseline(PLACES, Input(place=str(folder)), str(tmp_path / "base"))
    assert 20_000 < outcome.profile.rows < 40_000
    assert "a file that is cut off or damaged" in outcome.unread.reasons
    assert "not text, but a ZIP archive, or an Excel workbook" in outcome.unread.reasons


def test_a_column_without_a_name(baseline):
    """pandas' index, written without `index=False`."""
    assert [*baseline(b",a\n0,5\n1,6\n").profile.columns] == ["_c0", "a"]


def test_a_header_of_numbers_is_known_from_the_baseline(tmp_path):
    case = Case(tmp_path, ["0", "1"], [[1, 2]] * 9, form=Format.CSV)
    outcome = case.run(b"0,1\n" + b"1,2\n" * 9, name="live.csv")
    assert outcome.profile.rows == 9
    assert outcome.findings.violations == []


def test_lists_in_json_lines_have_the_baselines_names(tmp_path):
    case = Case(tmp_path, ["a", "b"], [[1, 2]] * 9)
    outcome = case.run(b"[1, 2]\n" * 9, name="rows.jsonl", form=Format.JSON_LINES)
    assert outcome.findings.violations == []
    assert outcome.profile.columns["a"].present == 9


class TestParquet:
    @pytest.mark.skipif(find_spec("pyarrow") is not None, reason="pyarrow is installed")
    def test_without_pyarrow(self, baseline):
        with pytest.raises(RequestError, match=r"pyarrow is missing.* .pip install pyarrow"):
            baseline(b"PAR1....PAR1")

    def test_columns(self, baseline, tmp_path):
        pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is the user's to install")
        pa = pytest.importorskip("pyarrow")
        columns = {
            "a": [1, None], "b": ["x", "y"], "c": [{"d": 0.5}, {"d": 1.5}], "e": [True, False],
        }  # fmt: skip
        pq.write_table(pa.table(columns), tmp_path / "made")
        data = (tmp_path / "made").read_bytes()
        outcome = baseline(data, name="data.bin")
        kinds = {"a": "Integral", "b": "String", "c.d": "Fractional", "e": "String"}
        assert shape(outcome) == (2, kinds)
        assert outcome.profile.columns["a"].missing == 1
        with pytest.raises(DataError, match="damaged or cut off"):
            baseline(data[:-20])


# ── outputs of transform jobs ──

STAMP = "94bcc22a-0462-4bd1-92c9-b46a5aaec1aa", "2026-11-23T14:25:34Z"


def test_a_transform_joined_with_its_input(tmp_path):
    """`join_source="Input"` with an inference id: the last two cells are not data."""
    case = Case(tmp_path, ["a", "b", "score"], [[1, 2, 0.5]] * 9, outputs=Outputs.END)
    rows = csv_text([[1, 2, 0.5, *STAMP]] * 9)
    outcome = case.run(rows.encode(), name="input.csv.out")
    assert outcome.findings.violations == []
    assert outcome.profile.columns["score"].moments.mean == 0.5
    assert sum(outcome.unread.notices.values()) == 9


@pytest.mark.parametrize("is_wide", [False, True])
def test_a_transform_in_json(tmp_path, is_wide):
    """One object per row, or one of many rows under one id."""
    case = Case(tmp_path, ["a", "b"], [[1, 2]] * 9)
    said = {"score": 0.5, "predicted_label": 1}
    rows = [{"features": [1, 2], "SageMakerOutput": said}] * 9
    if is_wide:
        many = [{"features": [1, 2]}] * 9
        rows = [{"instances": many, "SageMakerOutput": {"predictions": [said] * 9}}]
    stamp = dict(zip(("SageMakerInferenceId", "SageMakerInferenceTime"), STAMP, strict=True))
    data = "\n".join(json.dumps(stamp | row) for row in rows)
    outcome = case.run(data.encode(), name="input.out")
    assert outcome.findings.violations == []
    assert outcome.profile.rows == 9


def test_a_manifest_stands_for_what_it_names(tmp_path):
    """`DataCaptureConfig` of a transform job: no copies, but manifests in a folder per hour."""
    case = Case(tmp_path, ["a", "b"], [[1, 2]] * 9)
    (tmp_path / "in").mkdir()
    for name in ("x.csv", "y.csv"):
        (tmp_path / "in" / name).write_text("1,2\n" * 5)
    hour = tmp_path / "capture" / "input" / "2026" / "11" / "23" / "14"
    hour.mkdir(parents=True)
    (hour / "1.json").write_text(json.dumps([{"prefix": f"{tmp_path}/in/"}, "x.csv", "y.csv"]))
    assert case.run_place(str(tmp_path / "capture")).profile.rows == 10
    (hour / "1.json").write_text(json.dumps([{"prefix": f"{tmp_path}/in/x.csv"}, ""]))
    assert case.run_place(str(tmp_path / "capture")).profile.rows == 5
    (hour / "1.json").write_text('[{"prefix": "s3://b')
    with pytest.raises(DataError, match="is a manifest that is cut off"):
        case.run_place(str(tmp_path / "capture"))


@pytest.mark.parametrize("separator", [";", "\t", "|", ","])
def test_line_ends_within_quotes_of_any_separator(tmp_path, separator):
    rows = [f'{number},"x,\r\ny ""z""",2.5\r\n' for number in range(50)]
    text = "".join(rows).replace(",", separator)
    (tmp_path / "x.csv").write_bytes(f"a{separator}b{separator}c\r\n{text}".encode())
    outcome = jobs.make_data_baseline(
        PLACES, Input(place=str(tmp_path / "x.csv")), str(tmp_path / "o")
    )
    columns = outcome.profile.columns
    assert (outcome.profile.rows, [*columns], outcome.unread.count) == (50, ["a", "b", "c"], 0)
    assert columns["c"].moments.total == 125


def test_what_lies_beside_the_parts_of_a_dataset(tmp_path):
    """An empty file says nothing of separators, and JSON among CSV is no rows of text."""
    (tmp_path / "_SUCCESS").write_bytes(b"")
    (tmp_path / "a.csv").write_text("a,b\n" + "1,2\n" * 30)
    (tmp_path / "b.jsonl").write_text('{"a": 1, "b": 2}\n' * 30)
    outcome = jobs.make_data_baseline(PLACES, Input(place=str(tmp_path)), str(tmp_path / "o"))
    assert [*outcome.profile.columns] == ["a", "b"]
    assert outcome.unread.reasons == {"a file of JSON among files of CSV": 1}
    assert not outcome.unread.notices


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (zlib.compress(b"a,b\n" + b"1,2\n" * 300), "not text, but binary"),
        (gzip.compress(gzip.compress(b"a,b\n1,2\n")), "not text, but gzip within gzip"),
        (b"\x04\x22\x4d\x18xxxx\n", "not text, but compressed with lz4"),
        (b'{"a":1}{"a":2}\n' * 3, "not JSON"),
    ],
)
def test_what_is_not_read_is_called_by_name(tmp_path, data, told):
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(DataError, match=told):
        jobs.make_data_baseline(PLACES, Input(place=str(tmp_path / "x.json")), str(tmp_path / "o"))


def test_parquet_beside_an_empty_file_and_with_an_image(tmp_path):
    """Spark leaves `_SUCCESS`; bytes that are not text cost nothing but themselves."""
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is the user's to install")
    pa = pytest.importorskip("pyarrow")
    pq.write_table(pa.table({"a": [1] * 30, "image": [b"\xff\xd8"] * 30}), tmp_path / "x.parquet")
    (tmp_path / "_SUCCESS").write_bytes(b"")
    outcome = jobs.make_data_baseline(PLACES, Input(place=str(tmp_path)), str(tmp_path / "o"))
    assert (outcome.profile.rows, outcome.unread.count) == (30, 0)
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(twice, tmp_path / "x.parquet")
    with pytest.raises(DataError, match="has the column 'a' twice"):
        jobs.make_data_baseline(PLACES, Input(place=str(tmp_path)), str(tmp_path / "o"))
