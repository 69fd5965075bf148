"""The files that others read: AWS's examples, RFC 3720's vectors, and each format's own reader."""

from __future__ import annotations

import json
import math
import struct

import pytest

from sagemaker_byoc.contract.errors import DocumentError
from sagemaker_byoc.contract.training.runs import (
    Artifact,
    RunRecord,
    definition,
    format_line,
    lint,
    values,
)
from sagemaker_byoc.training.library.metric_files import (
    EventFile,
    Row,
    crc32c,
    lines,
    masked,
    record,
    records,
    scalars,
)

AWS_LINE = (
    "GAN_loss=0.138318;  Scaled_reg=2.654134; disc:[-0.017371,0.102429] real 93.3% gen 0.0% "
    "disc-combined=0.000000; disc_train_loss=1.374587;  Loss = 16.020744;  "
    "Iteration 0 took 0.704s;  Elapsed=0s"
)
"""Developer guide: training-metrics, with its four definitions."""
AWS_DEFINITIONS = {
    "ganloss": ("GAN_loss=(.*?);", 0.138318),
    "disc-combined": ("disc-combined=(.*?);", 0.0),
    "discloss": ("disc_train_loss=(.*?);", 1.374587),
    "loss": ("Loss = (.*?);", 16.020744),
}


@pytest.mark.parametrize("name", AWS_DEFINITIONS)
def test_aws_definitions(name):
    """The documented line gives the documented values, and the lint has nothing to say."""
    regex, value = AWS_DEFINITIONS[name]
    assert values({"Name": name, "Regex": regex}, [AWS_LINE]) == [value]
    assert lint([{"Name": name, "Regex": regex}], [AWS_LINE]) == []


def test_our_own_lines():
    """What format_line prints is what definition finds."""
    row = {"loss": 0.5, "step": 3.0, "validation:loss": 1e-9}
    found = [definition(name) for name in row]
    assert lint(found, [format_line(row)]) == []
    assert values(found[2], [format_line(row)]) == [1e-9]


@pytest.mark.parametrize(
    ("regex", "line", "what"),
    [
        ("loss=[0-9.]+", "loss=1", "no group"),
        ("loss=(.*);", "loss=1; acc=2;", "greedy"),
        ("(", "", "is not valid"),
        ("x" * 501, "", "501 characters"),
        ("accuracy=([0-9.]+)", "loss=1", "matches none of 1 lines"),
        ("loss=(\\S+)", "loss=n/a", "takes 'n/a' for a number"),
        ("loss=([0-9.]+)", "loss=1 loss=2", "matches 2 times"),
        ("loss=([0-9.]+)", " 10%\rloss=1", "behind a \\r"),
    ],
)
def test_lint(regex, line, what):
    """Each fault is named."""
    [problem, *_] = lint([{"Name": "x", "Regex": regex}], [line])
    assert what in str(problem)


def test_crc32c():
    """RFC 3720, appendix B.4."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"123456789") == 0xE3069283


def test_event_file(tmp_path):
    """Records with both checksums right; a scalar's bytes as protobuf would have them."""
    file = EventFile(tmp_path)
    file.write([Row(7, 1.5, {"loss": 0.25})])
    file.close(0)
    data = file.path.read_bytes()
    found = []
    while data:
        [length] = struct.unpack("<Q", data[:8])
        assert struct.unpack("<I", data[8:12])[0] == masked(data[:8])
        body = data[12 : 12 + length]
        assert struct.unpack("<I", data[12 + length : 16 + length])[0] == masked(body)
        found.append(body)
        data = data[16 + length :]
    assert found[0].endswith(b"\x1a\x0dbrain.Event:2")
    value = b"\x0a\x04loss\x15" + struct.pack("<f", 0.25)
    summary = b"\x0a" + bytes([len(value)]) + value
    wanted = b"\x09" + struct.pack("<d", 1.5) + b"\x10\x07\x2a" + bytes([len(summary)]) + summary
    assert found[1] == wanted


def test_records_together():
    """Many at once are the bytes of one after the other, whatever their lengths."""
    rows = [Row(step, 1.5 + step, {"loss": 0.25 * step, "b": 1e300}) for step in range(300)]
    rows.insert(7, Row(7, 0.0, {"other": -1e300}))
    events = [scalars(row) for row in rows]
    assert records([b"short", *events]) == b"".join(map(record, [b"short", *events]))


def test_event_of_odd_numbers():
    """NaN, infinities, what is too large for a float32, and steps beyond a byte."""
    row = Row(1 << 40, 0.0, {"a": math.nan, "b": math.inf, "c": 1e300, "d": -1e300})
    assert record(scalars(row))


def test_metric_file_lines():
    """smexperiments' record; no NaN."""
    text = lines(Row(3, 1591160699.5, {"loss": 0.5, "bad": math.nan}))
    assert [json.loads(line) for line in text.splitlines()] == [
        {"MetricName": "loss", "Value": 0.5, "Timestamp": 1591160699.5, "IterationNumber": 3}
    ]


def test_run_record(tmp_path):
    """What is written is what is read; an unknown format is said."""
    record = RunRecord(
        name="a",
        status="Completed",
        started=1.0,
        ended=2.0,
        parameters={"lr": "0.1"},
        artifacts=[Artifact("model", "/opt/ml/model/model.pt", "ab", 3)],
        commit="c0ffee",
        image="sha256:1",
        metrics={"loss": 0.5, "worst": math.inf},
    )
    record.write(tmp_path / "run.json")
    assert RunRecord.read(tmp_path / "run.json") == record
    with pytest.raises(DocumentError, match="has format 9"):
        RunRecord.parse({"format": 9}, "run.json")
