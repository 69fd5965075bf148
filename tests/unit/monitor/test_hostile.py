"""What is no data: counted, with its place, or an error with a hint; never half a file."""

from __future__ import annotations

import io
import json

import pytest
from tests.unit.monitor.cases import Case, captured, record

from sagemaker_byoc.contract.capture import Encoding
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.monitor.inputs import streams
from sagemaker_byoc.monitor.inputs.streams import DataError, EmptyError
from sagemaker_byoc.monitor.places import Places


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path, ["a", "b"], [[number, number / 7] for number in range(300)])


GOOD = captured([[number, number / 7] for number in range(300)])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (GOOD[:90] + b"\n", "not JSON, or cut off"),
        (b"\xff\xfe\n", "not UTF-8"),
        (b"[1, 2]\n", "captureData is missing"),
        (b'{"captureData": {}}\n', "eventMetadata is missing"),
        (b"nonsense\n", "not JSON, or cut off"),
        (b'{"a":1} x\n', "text after the record"),
        (b'{"a":' * 20_000 + b"\n", "not JSON, or cut off"),
        (record("{", kind=Encoding.JSON), "a body that is not JSON"),
        (record("1\n3\n5", "1\n2"), "differ in their number of rows"),
        (record("/w==", kind=Encoding.BASE64), "BASE64 of text/html that is not text"),
        (record('"' + "x" * 200_000, kind=Encoding.CSV), "CSV: field larger than"),
        (b'{"captureData":{"endpointInput":{"data":7}},"eventMetadata":{}}\n', "is not a string"),
    ],
)  # fmt: skip
def test_a_bad_line_among_good_ones(case, line, reason):
    outcome = case.run(GOOD + line)
    assert outcome.profile.rows == 300
    assert outcome.findings.violations == []
    ((told, count),) = outcome.unread.reasons.items()
    assert reason in told
    assert count == 1
    assert "live.jsonl:301" in outcome.unread.first[told]
    assert reason in (case.folder / "out" / "explanation.json").read_text()


def test_a_giant_value_is_not_quoted_in_full(case):
    line = json.loads(captured([[1, 2]]))
    line["captureData"]["endpointInput"]["encoding"] = "x" * 1_000_000
    outcome = case.run(GOOD + json.dumps(line).encode())
    ((reason, _),) = outcome.unread.reasons.items()
    assert reason.startswith("endpointInput.encoding is 'XXX")
    assert len(reason) == 200


def test_a_giant_line(case, monkeypatch):
    """Not kept in memory; what comes after it is read."""
    monkeypatch.setattr(streams, "LONGEST_LINE", 1 << 21)
    giant = b'{"captureData":"' + b"x" * (1 << 22) + b'"}\n'
    outcome = case.run(GOOD[: GOOD.index(b"\n") + 1] + giant + GOOD)
    assert outcome.profile.rows == 301
    assert dict(outcome.unread.reasons) == {"longer than 2 MiB": 1}
    assert outcome.unread.lines == 302


@pytest.mark.parametrize(
    ("data", "kind", "code"),
    [(b"", EmptyError, 4), (b"\n\n", EmptyError, 4), (GOOD[:50], DataError, 1)],
)
def test_nothing_to_use(case, data, kind, code):
    """An hour without traffic is not a violation, and not a fault of the data."""
    with pytest.raises(kind) as error:
        case.run(data)
    assert error.value.exit_code == code
    assert error.value.hint
    assert not (case.folder / "out").exists()


def test_no_such_place(case, tmp_path):
    with pytest.raises(RequestError, match="does not exist"):
        case.run_place(str(tmp_path / "nowhere.jsonl"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmptyError, match="holds no file"):
        case.run_place(str(tmp_path / "empty"))


def test_not_a_number(case):
    """nan and inf are text to Deequ: the type check finds them."""
    rows = [[number, number / 7] for number in range(300)]
    rows[3][1], rows[4][1] = "nan", "inf"
    assert case.checks(captured(rows)) == [("b", "data_type_check")]


def test_json_has_no_infinity(case):
    """Sums may leave the range of floats; the files stay JSON."""
    outcome = case.run(captured([[number, "1.7e308"] for number in range(300)]))
    assert outcome.profile.rows == 300
    text = (case.folder / "out" / "statistics.json").read_text()
    json.loads(text, parse_constant=pytest.fail)


def test_a_page_of_hostile_names(tmp_path):
    name = "<script>alert(1)</script>"
    case = Case(tmp_path, [name, "b"], [["<b>x</b>", number] for number in range(300)])
    case.run(captured([["<i>y</i>", number + 900] for number in range(300)]))
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page
    assert "<b>x" not in page
    assert "<i>y" not in page
    assert "://" not in page


def test_killed_in_the_middle_leaves_no_half_file(case, monkeypatch):
    from pathlib import Path

    case.run(GOOD)
    before = (case.folder / "out" / "statistics.json").read_bytes()
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        case.run(GOOD * 2)
    monkeypatch.undo()
    assert (case.folder / "out" / "statistics.json").read_bytes() == before
    assert not list((case.folder / "out").glob(".*"))


@pytest.mark.parametrize("prefix", ["/etc/", "", "file:///etc/", "s3:/etc/"])
def test_a_manifest_in_s3_names_no_file_of_this_machine(prefix):
    """Everyone who may write captures could else have any file read, and quoted in a report."""

    class Store:
        def open(self, uri):
            return io.BytesIO(json.dumps([{"prefix": prefix}, "passwd"]).encode())

    places = Places(Store())
    with pytest.raises(DataError, match="is a manifest of files outside of S3"):
        places.expanded(["s3://bucket/1.json"])
