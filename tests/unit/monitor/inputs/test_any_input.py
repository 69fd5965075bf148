"""Whatever a file holds, a run ends with a report or an error that says what to do."""

from __future__ import annotations

import copy
import json
import random
from contextlib import suppress

import pytest
from tests.unit.monitor.cases import PLACES, Case, captured, record

from sagemaker_byoc.contract.capture import Encoding, GroundTruth, Record
from sagemaker_byoc.contract.errors import ByocError
from sagemaker_byoc.monitor import jobs, model_quality, predictions
from sagemaker_byoc.monitor.data.statistics import Profile
from sagemaker_byoc.monitor.inputs import scripts
from sagemaker_byoc.monitor.inputs.documents import UnreadableError
from sagemaker_byoc.monitor.inputs.layout import Layout
from sagemaker_byoc.monitor.places import Input
from sagemaker_byoc.monitor.predictions import Attributes
from sagemaker_byoc.monitor.scores import Problem

ODD = [
    None, True, 7, -1, 1.5, float("nan"), float("inf"), 10**400, "", "x", "\ud800", "\0", "a,b\n1",
    '"', "[", "{}", [], [[]], [None], [1, [2, {"a": 3}]], {}, {"": ""}, {"a": {"0": []}},
    {"instances": 7}, {"inputs": [{"name": 1, "shape": [2, None], "datatype": 3, "data": [1]}]},
    {"columns": [1], "data": [[{}]]}, {"predictions": {}}, {"0": {"a": 1}}, {"a": [[1], 2]},
    [[], [1, 2]], "[]", {"inputs": {"a": 1}}, {"classes": ["a"], "scores": [1]},
    {"features": [1, 2], "x": 0},
]  # fmt: skip
ENCODINGS = ["CSV", "JSON", "BASE64", "csv", "XML", None, 7]


def paths(value, path=()):
    """The places within a document."""
    yield path
    inner = value.items() if isinstance(value, dict) else ()
    for key, each in inner:
        yield from paths(each, (*path, key))


def changed(document, path, value):
    made = copy.deepcopy(document)
    if not path:
        return value
    place = made
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return made


LINE = json.loads(record("1,0.5", "0.5"))
LABEL = json.loads(GroundTruth("event-0", "1").to_line())


def lines(document):
    """Every place of a record with every odd value in it, and every encoding with each body."""
    for path in paths(document):
        for value in ODD:
            yield json.dumps(changed(document, path, value))
    if "captureData" in document:
        for value in ODD:
            for encoding in ENCODINGS:
                body = value if isinstance(value, str) else json.dumps(value)
                one = changed(document, ("captureData", "endpointInput", "data"), body)
                yield json.dumps(
                    changed(one, ("captureData", "endpointInput", "encoding"), encoding)
                )


def data(document, good):
    text = "\n".join(lines(document)).encode()
    return good * (text.count(b"\n") // good.count(b"\n") + 2) + text


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path, ["a", "b"], [[number, number / 7] for number in range(300)])


def test_records(case):
    good = captured([[number, number / 7] for number in range(300)])
    outcome = case.run(data(LINE, good))
    assert outcome.profile.rows > 300
    assert outcome.unread.count > 100
    page = case.folder / "out" / "report.html"
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("problem", [*Problem])
def test_labels_and_predictions(tmp_path, problem):
    good = record("1", "1")
    (tmp_path / "live.jsonl").write_bytes(data(LINE, good))
    (tmp_path / "truth.jsonl").write_bytes(data(LABEL, GroundTruth("event-0", "1").to_line()))
    wanted = Attributes(problem=problem, labels=str(tmp_path / "truth.jsonl"))
    gathered = model_quality._gather(PLACES, Input(place=str(tmp_path / "live.jsonl")), wanted)
    assert len(predictions.arrays(gathered, wanted)) > 300
    assert gathered.unread.count > 100


def test_preprocessors(case):
    """A script may hand back whatever it was given."""
    script = case.folder / "script.py"
    script.write_text(
        "import json\n"
        "def preprocess_handler(record):\n"
        "    return json.loads(record.endpoint_input.data)\n"
    )
    made = scripts.preprocessor(script)
    for value in ODD:
        line = record(json.dumps(value), kind=Encoding.JSON)
        with suppress(ByocError, UnreadableError):
            made(Record.from_line(line), None)


SEEDS = [
    b"a,b\n1,2\n3,4\n",
    b'a;"b"\n1;"x\ny"\n',
    b'{"a": 1, "b": [1, 2]}\n{"a": 2}\n',
    b'[\n{"a": 1},\n{"a": 2}\n]',
    captured([[1, 2], [3, 4]]),
    "a,b\n1,é\n".encode("utf-16"),
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
]


def test_files(case):
    """Bytes that were cut, changed and put together at random, the same ones each time."""
    random_ = random.Random(7)
    place = case.folder / "live"
    seen = set()
    for _ in range(150):
        text = bytearray(random_.choice(SEEDS))
        for _ in range(random_.randrange(4)):
            at = random_.randrange(len(text) + 1)
            text[at : at + random_.randrange(3)] = random_.choice(
                [b"", b"\n", b'"', b",", b"\xff", b"\0", b"{", b"]", random_.choice(SEEDS)]
            )
        path = place.with_suffix(random_.choice([".csv", ".jsonl", ".json"]))
        path.write_bytes(bytes(text))
        try:
            jobs._read(PLACES, Input(place=str(path)), Layout(("a", "b")), Profile())
            seen.add("read")
        except ByocError as error:
            seen.add(type(error).__name__)
    assert seen >= {"read", "DataError", "EmptyError"}
