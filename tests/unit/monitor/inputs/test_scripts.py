"""Preprocessors: what AWS's samples read from a record, and what any script may return."""

from __future__ import annotations

import json

import pytest
from tests.unit.monitor.cases import Case, captured, record

from sagemaker_byoc.contract.capture import Encoding
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.monitor.inputs.streams import DataError


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path, ["a", "b"], [[number, number / 7] for number in range(300)])


@pytest.fixture
def through(case):
    """A run of records through a script of these lines."""

    def run(text, data=None):
        script = case.folder / "script.py"
        script.write_text(text)
        return case.run(data or captured([[1, 0.5], [2, 0.25]]), preprocess=script)

    return run


BODY = "    a, b = record.endpoint_input.data.strip().split(',')\n    a, b = int(a), float(b)\n"


@pytest.mark.parametrize(
    "returned",
    [
        "{'a': a, 'b': b}",
        "[a, b]",
        "(a, b)",
        "[{'a': a, 'b': b}, None]",
        "{'a': np.int64(a), 'b': np.float32(b)}",
        "np.array([a, b])",
        "[Decimal(a), Decimal(str(b))]",
        "f'{a},{b}'",
        "json.dumps({'a': a, 'b': b}).encode()",
        "({'a': n, 'b': b} for n in [a])",
        "{'feature0000000000': a, 'feature0000000001': b}",
        "{str(n).zfill(20): v for n, v in enumerate([a, b])}",
    ],
)
def test_numbers_stay_numbers(through, returned):
    head = "import json\nimport numpy as np\nfrom decimal import Decimal\n"
    outcome = through(f"{head}def preprocess_handler(record):\n{BODY}    return {returned}\n")
    assert outcome.unread.count == 0
    columns = outcome.profile.columns
    assert {name: each.moments.total for name, each in columns.items()} == {"a": 3, "b": 0.75}
    assert not any(each.text for each in columns.values())


@pytest.mark.parametrize("returned", ["None", "[]", "{}", "''", "float('nan')", "np.array([])"])
def test_a_record_that_is_left_out(through, returned):
    text = f"import numpy as np\ndef preprocess_handler(record):\n{BODY}"
    outcome = through(f"{text}    return {returned} if a == 1 else [a, b]\n")
    assert (outcome.profile.rows, outcome.unread.count) == (1, 0)


def test_what_is_not_data_is_counted_with_its_type_and_place(through):
    text = f"def preprocess_handler(record):\n{BODY}    return {{'a': a, 'b': [1j, b][a - 1]}}\n"
    outcome = through(text)
    assert outcome.profile.rows == 1
    ((reason, count),) = outcome.unread.reasons.items()
    assert (reason, count) == ("preprocess_handler: a value of type complex is not data", 1)
    assert outcome.unread.first[reason].endswith("live.jsonl:1: at ['b']")


@pytest.mark.parametrize(
    "arguments",
    ["record", "record, logger", "record, logger=None", "record, *, logger", "record, **more"],
)
def test_arguments(through, arguments):
    asked = "    logger.info('x')\n" if "logger" in arguments else ""
    outcome = through(f"def preprocess_handler({arguments}):\n{asked}{BODY}    return [a, b]\n")
    assert outcome.profile.rows == 2


def test_what_a_record_has(through):
    """The guide's attributes, and `event_data`, which AWS's first sample reads."""
    text = """
def preprocess_handler(inference_record):
    assert inference_record.event_data.endpointInput.data == "1,0.5\\n"
    assert inference_record.event_data.endpointOutput.encoding == "CSV"
    assert not hasattr(inference_record, "ground_truth")
    assert inference_record.event_id == inference_record.event_metadata.event_id == "event-0"
    assert inference_record.event_metadata.event_time == "2026-11-23T14:30:00Z"
    assert inference_record.endpoint_input.mode == "INPUT"
    assert inference_record.endpoint_output.data == "0.5"
    assert inference_record.event_version == "0"
    return [1, 2.5]
"""
    assert through(text, captured([[1, 0.5]])).profile.rows == 1


def test_a_generator_that_fails(through):
    text = "def preprocess_handler(record):\n    yield {'a': 1, 'b': 2}\n    1 / 0\n"
    with pytest.raises(DataError, match="failed on the record event-0: ZeroDivisionError"):
        through(text)


def test_a_handler_that_exits(through):
    with pytest.raises(DataError, match="failed on the record event-0: SystemExit: 3"):
        through("def preprocess_handler(record):\n    raise SystemExit(3)\n")


def test_a_script_that_exits(through):
    with pytest.raises(RequestError, match="can't be loaded: SystemExit"):
        through("raise SystemExit(3)\n")


def test_a_handler_that_returns_itself(through):
    text = "def preprocess_handler(record):\n    x = []\n    x.append(x)\n    return x\n"
    with pytest.raises(DataError, match="RecursionError"):
        through(text)


def test_json_records(through):
    """The second of the guide's own scripts, in its shape: positions of a JSON list."""
    text = """
import json
def preprocess_handler(inference_record):
    values = json.loads(inference_record.endpoint_input.data)
    return {f"feature{str(i).zfill(10)}": value for i, value in enumerate(values)}
"""
    outcome = through(text, record(json.dumps([1, 2.5]), kind=Encoding.JSON) * 5)
    assert [*outcome.profile.columns] == ["a", "b"]
    assert outcome.profile.columns["b"].moments.mean == 2.5


@pytest.mark.parametrize(
    "returned",
    [
        "[float(a), b]",
        "{'a': float(a), 'b': b}",
        "np.array([a, b])",
        "[np.float32(a), np.float64(b)]",
        "[Fraction(a), b]",
        "array('d', [a, b])",
        "f'a,b\\n{a},{b}'",
        "f',a,b\\n0,{a},{b}'",
        "{'a': [One.X, One.Y][a - 1], 'b': b}",
        "[[], {}, [a, b]]",
        "[namedtuple('Pandas', 'Index a b')(0, a, b)]",
    ],
)
def test_whole_numbers_that_a_script_made_fractions(through, returned):
    """An array has one type for all; what is whole is no violation in a column of whole numbers."""
    head = (
        "import enum\nimport numpy as np\nfrom collections import namedtuple\n"
        "from array import array\nfrom fractions import Fraction\n"
        "class One(enum.Enum):\n    X = 1\n    Y = 2\n"
    )
    outcome = through(f"{head}def preprocess_handler(record):\n{BODY}    return {returned}\n")
    totals = {name: each.moments.total for name, each in outcome.profile.columns.items()}
    assert (totals, outcome.findings.violations) == ({"a": 3, "b": 0.75}, [])


def test_a_fraction_among_whole_numbers_is_one(through):
    text = f"def preprocess_handler(record):\n{BODY}    return [a + 0.5, b]\n"
    assert [each.check for each in through(text).findings.violations] == ["data_type_check"]


def test_text_that_a_script_returns_keeps_its_zero(tmp_path):
    case = Case(tmp_path, ["a", "b"], [[["1.0", "x"][number % 2], number] for number in range(300)])
    (tmp_path / "script.py").write_text("def preprocess_handler(record):\n    return ['1.0', 5]\n")
    outcome = case.run(captured([[1, 0.5]]), preprocess=tmp_path / "script.py")
    assert outcome.findings.violations == []


@pytest.mark.parametrize(
    ("returned", "told"),
    [("Decimal('sNaN')", ""), ("10**5000", "a value of type int is not data, as it has more than")],
)
def test_numbers_that_python_does_not_write(through, returned, told):
    head = "from decimal import Decimal\n"
    text = f"{head}def preprocess_handler(record):\n{BODY}    return [a, [b, {returned}][a - 1]]\n"
    outcome = through(text)
    assert ", ".join(outcome.unread.reasons).startswith(
        f"preprocess_handler: {told}" if told else ""
    )
    assert outcome.unread.count == bool(told)
    assert outcome.profile.columns["b"].moments.total == 0.5
