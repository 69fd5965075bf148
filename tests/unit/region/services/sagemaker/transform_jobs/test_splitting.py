"""Objects as records and bodies: limits, ends of lines, frames, and what is not a record."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_byoc.region.services.sagemaker.jobs import pipes
from sagemaker_byoc.region.services.sagemaker.jobs.inputs import DownloadError
from sagemaker_byoc.region.services.sagemaker.transform_jobs import splitting
from sagemaker_byoc.region.services.sagemaker.transform_jobs.splitting import (
    RecordError,
    Split,
)


def bodies(data, split, limit=1 << 20, *, single=False, step=7):
    pieces = (data[at : at + step] for at in range(0, len(data), step))
    return [each.body for each in splitting.batches(pieces, split, limit, is_single=single)]


def test_lines_keep_their_ends():
    assert bodies(b"a\nb\r\n\n\rc", Split.LINE, single=True) == [b"a\n", b"b\r\n", b"\n", b"\rc"]


def test_as_many_lines_as_fit():
    assert bodies(b"aa\nbb\ncc\ndd", Split.LINE, 6) == [b"aa\nbb\n", b"cc\ndd"]
    assert bodies(b"aa\nbb\ncc\n", Split.LINE, 5) == [b"aa\n", b"bb\n", b"cc\n"]


@settings(max_examples=200)
@given(
    lines=st.lists(st.binary(max_size=9).filter(lambda line: b"\n" not in line), max_size=20),
    limit=st.integers(10, 40),
    step=st.integers(1, 50),
    single=st.booleans(),
)
def test_bodies_are_the_object(lines, limit, step, single):
    """In order, whole lines, within the limit, and none that would have fit into the one before."""
    data = b"\n".join(lines)
    found = bodies(data, Split.LINE, limit, single=single, step=step)
    assert b"".join(found) == data
    assert all(len(body) <= limit for body in found)
    assert all(body.endswith(b"\n") for body in found[:-1])
    if single:
        assert all(body.count(b"\n") <= 1 for body in found)


def test_a_line_over_the_limit():
    with pytest.raises(RecordError, match="Too much data for max payload size: a line"):
        bodies(b"aa\n" + b"b" * 10 + b"\ncc\n", Split.LINE, 6)


def test_a_whole_object():
    assert bodies(b"one\ntwo\n", Split.NONE) == [b"one\ntwo\n"]
    assert bodies(b"", Split.NONE) == bodies(b"", Split.LINE) == []
    with pytest.raises(RecordError, match="SplitType None"):
        bodies(b"x" * 11, Split.NONE, 10)


def test_memory_of_a_long_object():
    """What is read ahead is no more than a body and a chunk."""
    read = 0

    def source():
        nonlocal read
        for _ in range(1000):
            read += 1
            yield b"x" * 99 + b"\n"

    found = splitting.batches(source(), Split.LINE, 1000, is_single=False)
    assert len(next(found).body) == 1000
    assert read <= 12


def record_io(*payloads):
    return b"".join(b"".join(pipes.frame(len(each), [each])) for each in payloads if each)


def tf_record(payload):
    head = struct.pack("<Q", len(payload))
    return head + struct.pack("<I", splitting._masked(head)) + payload + b"\1\2\3\4"


@pytest.mark.parametrize(
    ("split", "frame"), [(Split.RECORD_IO, record_io), (Split.TF_RECORD, tf_record)]
)
def test_framed_records(split, frame):
    """A single record loses its frame, several keep theirs."""
    payloads = [b"one", b"three", b"x" * 50]
    data = b"".join(map(frame, payloads))
    assert bodies(data, split, single=True) == payloads
    first = len(frame(b"one") + frame(b"three"))
    assert bodies(data, split, max(first, len(frame(payloads[2])))) == [data[:first], data[first:]]
    with pytest.raises(RecordError, match=r"a record is over .* Set a larger MaxPayloadInMB"):
        bodies(data, split, 40)
    with pytest.raises(RecordError, match="ends within a record"):
        bodies(data[:-3], split)
    with pytest.raises(RecordError, match="is not"):
        bodies(b"\0" * 40, split)


def test_a_record_in_parts():
    """dmlc's writer cuts a payload where it contains the magic word."""
    word = struct.pack("<I", pipes.MAGIC)

    def part(flag, data):
        return word + struct.pack("<I", flag << pipes.LENGTH_BITS | len(data)) + data

    data = part(1, b"abcd") + part(2, b"efgh") + part(3, b"ij") + b"\0\0" + record_io(b"next")
    assert bodies(data, Split.RECORD_IO, single=True) == [
        b"abcd" + word + b"efgh" + word + b"ij",
        b"next",
    ]
    assert bodies(data, Split.RECORD_IO) == [data]


def test_the_length_of_a_record_that_does_not_fit():
    """Not read: an object may state any length."""
    head = struct.pack("<Q", 1 << 60)
    with pytest.raises(RecordError, match="a record is over"):
        bodies(head + struct.pack("<I", splitting._masked(head)), Split.TF_RECORD)


def test_masked_checksum():
    """As in tensorflow/core/lib/hash/crc32c_test.cc: the CRC-32C of 32 zeros is 0x8a9136aa."""
    crc = 0x8A9136AA
    assert splitting._masked(b"\0" * 32) == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def processed(data, limit=1 << 20, prepare=bytes.upper, split=Split.LINE, *, single=False):
    found = splitting.processed([data], split, limit, prepare, is_single=single)
    return [(each.body, tuple(each.records)) for each in found]


def test_processed_lines():
    data = b"a\n\n  \r\nb\r\nc"
    assert processed(data) == [(b"A\nB\nC\n", (b"a", b"b", b"c"))]
    assert processed(data, single=True) == [(b"A\n", (b"a",)), (b"B\n", (b"b",)), (b"C\n", (b"c",))]
    assert processed(b"aa\nbb\ncc", 6) == [(b"AA\nBB\n", (b"aa", b"bb")), (b"CC\n", (b"cc",))]
    assert processed(data, split=Split.NONE) == [(data.upper(), (data,))]


def test_short_lines_take_no_more_memory_than_their_text():
    """An object for each of them would take 40 times as much."""
    data = b"1\n" * (1 << 18)
    tracemalloc.start()
    try:
        found = [
            *splitting.processed([data], Split.LINE, 1 << 20, lambda line: line, is_single=False)
        ]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    (batch,) = found
    assert batch.body == batch.records.text == data
    assert len(batch.records) == 1 << 18
    assert peak < 16 * len(data)


def test_lines_of_a_long_text():
    rows = [str(number).encode() for number in range(400_000)]
    lines = splitting.Lines(b"\n".join([*rows, b""]), len(rows))
    assert [*lines] == rows
    assert b"399999" in lines
    assert b"400000" not in lines


def test_a_batch_counts_what_is_sent_and_what_is_kept():
    longer = processed(b"a\nb\nc", 10, lambda line: line * 4)
    assert [body for body, _ in longer] == [b"aaaa\nbbbb\n", b"cccc\n"]
    shorter = processed(b"aaaa\nbbbb\ncccc", 10, lambda line: line[:1])
    assert [body for body, _ in shorter] == [b"a\nb\n", b"c\n"]


def test_gzip():
    data = b"one\ntwo\n" * 1000
    packed = gzip.compress(data)
    found = splitting.chunks(io.BytesIO(packed), "s3://b/k", gunzip=True)
    assert b"".join(found) == data
    cut = splitting.chunks(io.BytesIO(packed[:-9]), "s3://b/k", gunzip=True)
    with pytest.raises(DownloadError, match="s3://b/k ends within its gzip stream"):
        list(cut)
    plain = splitting.chunks(io.BytesIO(data), "s3://b/k", gunzip=True)
    with pytest.raises(DownloadError, match="s3://b/k is not gzip"):
        list(plain)
