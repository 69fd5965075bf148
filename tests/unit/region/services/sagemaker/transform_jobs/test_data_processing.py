"""Filters, joins and ids: the developer guide's examples, and what can't be joined."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_byoc.region.services.sagemaker.transform_jobs.data_processing import (
    AnswerError,
    Media,
    Processing,
)
from sagemaker_byoc.region.services.sagemaker.transform_jobs.json_paths import (
    JsonPathError,
    parse,
)
from sagemaker_byoc.region.services.sagemaker.transform_jobs.splitting import RecordError

TIME = "2022-08-30T00:49:15Z"


def processing(media=Media.CSV, input_filter="$", output_filter="$", joins=True, **more):
    found = Processing(
        input_filter=parse(input_filter),
        output_filter=parse(output_filter),
        joins=joins,
        content=media,
        accept=media,
        is_split=True,
        ends_lines=True,
    )
    return replace(found, **more)


def run(found, inputs, answer):
    """What the model gets, and the output."""
    sent = [found.prepare(each.encode()).decode() for each in inputs]
    return sent, found.finish([each.encode() for each in inputs], answer.encode()).decode()


CASES = [  # media, InputFilter, OutputFilter, joins, record, sent, answer, output
    (Media.CSV, "$", "$", False, "1,2,3", "1,2,3", "1", "1"),
    (Media.CSV, "$", "$", True, "1,2,3", "1,2,3", "1", "1,2,3,1"),
    (Media.CSV, "$[1:]", "$", True, "7,a,b,c,d", "a,b,c,d", "0.5", "7,a,b,c,d,0.5"),
    (Media.CSV, "$[1:]", "$[0,-1]", True, "7,a,b,c,d", "a,b,c,d", "0.5", "7,0.5"),
    (Media.CSV, "$[1:4]", "$", False, "7,a,b,c,d", "a,b,c,d", "0.5", "0.5"),
    (Media.CSV, "$[:-2]", "$[-1]", True, "7,a,b", "7,a", "x,y", "y"),
    (Media.CSV, "$[1]", "$", True, '"a, b","say ""hi""",3', '"say ""hi"""', '"x,y"',
     '"a, b","say ""hi""",3,"x,y"'),
    (Media.CSV, "$", "$[0,2,-1]", True, '"a, b",,3', '"a, b",,3', "9", '"a, b",3,9'),
    (Media.JSON, "$", "$", True, '{"key":1}', '{"key":1}', '{"label":1}',
     '{"key":1,"SageMakerOutput":{"label":1}}'),
    (Media.JSON, "$", "$", True, "[1,2]", "[1,2]", "[3]",
     '{"SageMakerInput":[1,2],"SageMakerOutput":[3]}'),
    (Media.JSON_LINES, "$.features", "$['id','SageMakerOutput']", True,
     '{"id": 4, "features": [1, 2], "other": 0}', "[1,2]", "0.5",
     '{"id":4,"SageMakerOutput":0.5}'),
    (Media.JSON_LINES, "$.features", "$.SageMakerOutput.label", True,
     '{"id": 4, "features": [1, 2]}', "[1,2]", '{"label": "é"}', '"é"'),
    (Media.JSON, "$", "$", True, '{"SageMakerOutput": "old"}', '{"SageMakerOutput": "old"}', "1",
     '{"SageMakerOutput":1}'),
    (Media.JSON, "$", "$.label", False, '{"a":1}', '{"a":1}', '{"label": 3, "p": 1}', "3"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_records(case):
    media, input_filter, output_filter, joins, record, sent, answer, output = case
    found = processing(media, input_filter, output_filter, joins)
    end = "\n" if found.changes_output else ""
    assert run(found, [record], answer) == ([sent], output + end)


@settings(max_examples=300)
@given(
    numbers=st.lists(st.integers(-4, 4), min_size=1, max_size=3),
    start=st.integers(0, 4),
    record=st.lists(st.sampled_from([b"a", b"", b'"b,c"', b"dd"]), min_size=1, max_size=4),
    output=st.lists(st.sampled_from([b"x", b"", b'"y,z"']), min_size=1, max_size=3),
)
def test_columns_are_those_of_the_whole_row(numbers, start, record, output):
    """However few of them are looked at."""
    path = parse(f"$[{','.join(map(str, numbers))}]")
    found = processing(Media.CSV, f"$[{start}:]", path.text)
    rows = b",".join(record), b",".join(output)
    if b"" in rows:  # not a record
        return
    try:
        expected = b",".join(path.columns(record + output)) + b"\n"
    except JsonPathError:
        with pytest.raises(AnswerError, match="is outside of the"):
            found.finish([rows[0]], rows[1])
    else:
        assert found.finish([rows[0]], rows[1]) == expected
    if start < len(record):
        assert found.prepare(rows[0]) == b",".join(record[start:])
    else:
        with pytest.raises(RecordError):
            found.prepare(rows[0])


def test_batches_keep_their_order():
    found = processing(input_filter="$[1:]", output_filter="$[0,-1]")
    sent, output = run(found, ["1,a", "2,b", "3,c"], "x\r\n\ny\nz\n")
    assert sent == ["a", "b", "c"]
    assert output == "1,x\n2,y\n3,z\n"
    lines = processing(Media.JSON_LINES)
    assert run(lines, ['{"a":1}', "2"], "[1]\n[2]")[1] == (
        '{"a":1,"SageMakerOutput":[1]}\n{"SageMakerInput":2,"SageMakerOutput":[2]}\n'
    )


def test_whole_objects():
    """SplitType None: one JSON document, of one or many lines, or all lines of an object."""
    document = processing(Media.JSON, "$.a", is_split=False, ends_lines=False)
    assert run(document, ['{\n"a": [1]\n}'], "[\n2\n]\n") == (
        ["[1]"],
        '{"a":[1],"SageMakerOutput":[2]}',
    )
    lines = processing(Media.JSON_LINES, "$.a", is_split=False)
    assert run(lines, ['{"a":1}\n\n{"a":2}\n'.replace("\n\n", "\n")], "3\n4\n") == (
        ["1\n2\n"],
        '{"a":1,"SageMakerOutput":3}\n{"a":2,"SageMakerOutput":4}\n',
    )


@pytest.mark.parametrize(
    ("media", "answer", "words"),
    [
        (Media.CSV, "1\n", "1 record(s) for 2 record(s)"),
        (Media.CSV, "1\n2\n3\n", "3 record(s) for 2 record(s)"),
        (Media.CSV, "", "0 record(s) for 2 record(s)"),
        (Media.CSV, '"open\n2', "as CSV: A row of CSV has an open quote"),
        (Media.CSV, "1\n2", "OutputFilter $[0,4]: index 4 is outside of the 3"),
        (Media.JSON_LINES, "nonsense\n1", "as JSON: it is not JSON"),
        (Media.JSON_LINES, "\udcff\n1", "it is not UTF-8"),
        (Media.JSON_LINES, "[" * 100_000 + "\n1", "nested too deeply"),
    ],
)
def test_answers_that_can_not_be_joined(media, answer, words):
    found = processing(media, output_filter="$[0,4]" if media is Media.CSV else "$")
    records = [b"1,2", b"3,4"] if media is Media.CSV else [b"1", b"2"]
    with pytest.raises(AnswerError) as caught:
        found.finish(records, answer.encode(errors="surrogateescape"))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("media", "path", "record", "words"),
    [
        (Media.CSV, "$[2]", b"1,2", "InputFilter $[2]: index 2 is outside of the 2"),
        (Media.JSON, "$.a", b'{"b":1}', "no attribute 'a', but b"),
        (Media.JSON, "$.a", b"\xff", "it is not UTF-8"),
        (Media.JSON, "$.a", b"{", "it is not JSON"),
    ],
)
def test_records_that_can_not_be_filtered(media, path, record, words):
    with pytest.raises(RecordError) as caught:
        processing(media, path).prepare(record)
    assert words in str(caught.value)


def test_an_open_quote_in_the_input():
    with pytest.raises(RecordError, match="open quote: rows can't contain newlines"):
        processing(Media.CSV, "$[1:]").prepare(b'1,"two')


def test_csv_of_any_encoding():
    found = processing(Media.CSV, "$[1:]", "$[0,-1]")
    assert found.prepare(b"caf\xe9,\xff\xfe") == b"\xff\xfe"
    assert found.finish([b"caf\xe9,1"], b"\xe8\n") == b"caf\xe9,\xe8\n"


def test_inference_ids():
    """As model-monitor-data-capture-batch shows them: a random UUID and the time of the job."""
    rows = processing(joins=False, inference_time=TIME).finish([b"a", b"b"], b"0\n1\n").decode()
    first, second = (line.split(",") for line in rows.splitlines())
    assert (first[0], first[2], second[0]) == ("0", TIME, "1")
    assert uuid.UUID(first[1]) != uuid.UUID(second[1])
    answers = b'{"output": 0}\n7\n'
    lines = processing(Media.JSON_LINES, joins=False, inference_time=TIME).finish(
        [b"", b""], answers
    )
    one, two = map(json.loads, lines.splitlines())
    assert [*one] == ["output", "SageMakerInferenceId", "SageMakerInferenceTime"]
    assert (two["SageMakerOutput"], two["SageMakerInferenceTime"]) == (7, TIME)
