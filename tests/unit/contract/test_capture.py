"""Captured records: AWS's own examples, both directions, encodings, layout, selection."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime

import pytest

from sagemaker_byoc.contract.capture import (
    CaptureError,
    ContentTypes,
    Encoding,
    GroundTruth,
    Lines,
    Mode,
    Payload,
    Record,
    Selection,
    file_name,
    hour_folder,
    hour_of,
    is_enabled,
    moment_of,
)

# developer guide, model-monitor-pre-and-post-processing: the record that it shows
GUIDE_RECORD = """
{
  "captureData": {
    "endpointInput": {
      "observedContentType": "text/csv",
      "mode": "INPUT",
      "data": "132,25,113.2,96,269.9,107,,0,0,0,0,0,0,1,0,1,0,0,1",
      "encoding": "CSV"
    },
    "endpointOutput": {
      "observedContentType": "text/csv; charset=utf-8",
      "mode": "OUTPUT",
      "data": "0.01076381653547287",
      "encoding": "CSV"
    }
  },
  "eventMetadata": {
    "eventId": "feca1ab1-8025-47e3-8f6a-99e3fdd7b8d9",
    "inferenceTime": "2019-11-20T23:33:12Z"
  },
  "eventVersion": "0"
}
"""
# aws/sagemaker-python-sdk (Apache-2.0), tests/data/monitor/captured-data.jsonl: its first line
SDK_LINE = (
    rb'{"captureData":{"endpointInput":{"observedContentType":"application/json","mode":"INPUT",'
    rb'"data":"{\"instances\": [1.0, 2.0, 5.0]}","encoding":"JSON"},"endpointOutput":'
    rb'{"observedContentType":"application/json","mode":"OUTPUT","data":"{\n    \"predictions\": '
    rb'[3.5, 4.0, 5.5\n    ]\n}","encoding":"JSON"}},"eventMetadata":{"eventId":'
    rb'"12b73486-e916-45de-9d82-7fa23d4a39a6","inferenceTime":"2019-11-24T07:30:50Z"},'
    rb'"eventVersion":"0"}'
    b"\n"
)
TIME = datetime(2022, 2, 14, 17, 25, 6, 123456, tzinfo=UTC)
CSV = {"InitialSamplingPercentage": 100, "DestinationS3Uri": "s3://b/p"}


def line(request=b"1,2", response=b"0.5", kinds=("text/csv", "text/csv"), selection=None, **more):
    lines = Lines(selection or Selection())
    return lines.line(
        request,
        kinds[0],
        response,
        kinds[1],
        **{"event_id": "e-1", "moment": moment_of(TIME), **more},
    )


def test_guide_record_round_trip():
    """AWS's published record is read, and written again with the same keys in the same order."""
    record = Record.from_line(GUIDE_RECORD)
    assert record.input.body.startswith(b"132,25,113.2")
    assert record.output.content_type == "text/csv; charset=utf-8"
    assert record.time == datetime(2019, 11, 20, 23, 33, 12, tzinfo=UTC)
    compact = json.dumps(json.loads(GUIDE_RECORD), separators=(",", ":")).encode() + b"\n"
    assert record.to_line() == compact


def test_sdk_record_byte_for_byte():
    """Both ways of writing give the very bytes of a file that SageMaker wrote."""
    record = Record.from_line(SDK_LINE)
    assert record.to_line() == SDK_LINE
    written = Lines(Selection()).line(
        record.input.body,
        record.input.content_type,
        record.output.body,
        record.output.content_type,
        event_id=record.event_id,
        moment=moment_of(record.time),
    )
    assert written == SDK_LINE


def test_lines_and_records_write_the_same():
    """The fast way and the readable way agree, whatever is in the bodies."""
    request = 'a "quoted",\nüber,\x00\x1f,\u2028,\U0001f600'.encode()
    written = line(request, inference_id='i"1', custom_attributes="trace=7")
    record = Record.from_line(written)
    assert record.to_line() == written
    assert written.count(b"\n") == 1
    assert record.input.body == request
    assert record.inference_id == record.join_key == 'i"1'
    assert record.custom_attributes == ("trace=7",)


@pytest.mark.parametrize(
    ("content_type", "body", "encoding"),
    [
        ("text/csv", b"1,2", Encoding.CSV),
        ("Text/CSV; charset=utf-8", b"1,2", Encoding.CSV),
        ("application/json", b"{}", Encoding.JSON),
        ("application/json", b"", Encoding.JSON),
        ("application/jsonlines", b"{}", Encoding.BASE64),
        ("application/x-npy", b"\x93NUMPY", Encoding.BASE64),
        ("text/html; charset=utf-8", b"0.5", Encoding.BASE64),
        ("", b"1,2", Encoding.BASE64),
        (None, b"", Encoding.BASE64),
        ("text/csv", b"caf\xe9,1", Encoding.BASE64),
        ("application/json", gzip.compress(b"{}", mtime=0), Encoding.BASE64),
    ],
)
def test_encoding_by_content_type(content_type, body, encoding):
    """Parameters don't matter; what is not UTF-8, gzip too, is kept whole as BASE64."""
    record = Record.from_line(line(body, kinds=(content_type or "", "text/csv")))
    assert record.input.encoding is encoding
    assert record.input.body == body
    assert record.input == Payload.of(body, content_type, ContentTypes())


def test_capture_options():
    """One direction only, both at once, and as two options."""
    for modes, wanted in (
        (["Input"], {Mode.INPUT}),
        (["Output"], {Mode.OUTPUT}),
        (["InputAndOutput"], {*Mode}),
        (["Input", "Output"], {*Mode}),
    ):
        config = {**CSV, "CaptureOptions": [{"CaptureMode": mode} for mode in modes]}
        selection = Selection.from_config(config)
        record = Record.from_line(line(selection=selection))
        found = {
            *([Mode.INPUT] if record.input else []),
            *([Mode.OUTPUT] if record.output else []),
        }
        assert found == wanted


def test_without_content_type_lists_all_is_base64():
    """As the API page says of CaptureContentTypeHeader."""
    config = {**CSV, "CaptureOptions": [{"CaptureMode": "Input"}]}
    assert (
        Record.from_line(line(selection=Selection.from_config(config))).input.encoding == "BASE64"
    )
    config["CaptureContentTypeHeader"] = {"CsvContentTypes": ["Text/X-Own"]}
    own = line(kinds=("text/x-own", ""), selection=Selection.from_config(config))
    assert Record.from_line(own).input.encoding == "CSV"


def test_sampling_is_drawn_for_each_request():
    """0 takes none, 100 all, 30 takes what falls below it."""
    assert not Selection(percentage=0).takes(lambda: 0.0)
    assert Selection(percentage=100).takes(lambda: 0.999999)
    draws = iter([0.29, 0.30, 0.99, 0.0])
    taken = [Selection(percentage=30).takes(lambda: next(draws)) for _ in range(4)]
    assert taken == [True, False, False, True]


def test_enabled_by_default():
    assert is_enabled({**CSV})
    assert not is_enabled({**CSV, "EnableCapture": False})
    assert not is_enabled({})
    assert not is_enabled(None)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("{", "line"),
        ("[]", "captureData"),
        ('{"captureData": {}}', "eventMetadata"),
        ('{"captureData": {"endpointInput": {}}, "eventMetadata": {}}', "endpointInput.data"),
        (GUIDE_RECORD.replace('"CSV"', '"XML"'), "endpointInput.encoding"),
        (GUIDE_RECORD.replace("2019-11-20T", "yesterday "), "eventMetadata.inferenceTime"),
    ],
)
def test_damaged_lines(text, where):
    """The error names the key."""
    with pytest.raises(CaptureError) as caught:
        Record.from_line(text)
    assert caught.value.where == where


def test_damaged_base64():
    payload = Payload("", "not base64!", Encoding.BASE64)
    with pytest.raises(CaptureError, match="is not base64"):
        _ = payload.body


def test_custom_attributes_as_one_string():
    """The guide names the key and not its shape."""
    text = GUIDE_RECORD.replace('"inferenceTime"', '"customAttributes": "a=1", "inferenceTime"')
    assert Record.from_line(text).custom_attributes == ("a=1",)


def test_layout():
    assert hour_folder(TIME) == "2022/02/14/17"
    assert file_name(TIME, "u") == "25-06-123-u.jsonl"
    hour = datetime(2022, 2, 14, 17, tzinfo=UTC)
    assert hour_of(f"s3://b/2021/01/01/p/{hour_folder(TIME)}/x.jsonl") == hour
    assert hour_of("s3://b/2022/99/14/17/x.jsonl") is None


def test_ground_truth_round_trip():
    """The shape of model-monitor-model-quality-merge, found again by the record's key."""
    label = GroundTruth(Record.from_line(line()).join_key, "1")
    assert json.loads(label.to_line()) == {
        "groundTruthData": {"data": "1", "encoding": "CSV"},
        "eventMetadata": {"eventId": "e-1"},
        "eventVersion": "0",
    }
    assert GroundTruth.from_line(label.to_line()) == label
    with pytest.raises(CaptureError):
        GroundTruth.from_line('{"groundTruthData": {}, "eventMetadata": {}}')


def test_a_body_without_a_content_type():
    """null, as in the schema of AWS's example, and not a type whose name is empty."""
    types = ContentTypes()
    record = Record(
        input=Payload.of(b"1,2", "text/csv", types),
        output=Payload.of(b"0.5", None, types),
        event_id="x",
        time=datetime(2026, 11, 23, tzinfo=UTC),
    )
    output = json.loads(record.to_line())["captureData"]["endpointOutput"]
    assert output["observedContentType"] is None
    assert Record.from_line(record.to_line()) == record
