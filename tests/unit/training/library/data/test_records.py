"""RecordIO: what is written is read, and what is damaged says at which byte."""

from __future__ import annotations

import io
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_byoc.training.library.data.records import (
    FIRST,
    LAST,
    LONGEST,
    MIDDLE,
    MXNET_JOINT,
    RecordError,
    encode_record,
    frame,
    record_blocks,
)

# Pieces of which some are the magic word, so that payloads get cut.
PAYLOADS = st.lists(st.one_of(st.binary(max_size=9), st.just(MXNET_JOINT)), max_size=6).map(
    b"".join
)


def records(data, joint=MXNET_JOINT):
    """What is read, in reads of the usual size, and in very short ones to the same effect."""
    whole = read(io.BytesIO(data), joint)
    assert read(Trickle(data), joint) == whole
    return whole


def read(source, joint):
    return list(itertools.chain.from_iterable(record_blocks(source, "there", joint)))


class Trickle(io.BytesIO):
    """A pipe may bring any number of bytes."""

    def read(self, size):
        return super().read(min(size, 3))


@given(st.lists(PAYLOADS, max_size=5))
def test_round_trip(payloads):
    """Any payloads come back, also those that hold the magic word."""
    assert records(b"".join(map(encode_record, payloads))) == payloads


def test_payload_with_magic_is_cut_as_mxnet_does():
    """At an aligned magic word only, which is itself not written."""
    payload = b"1234" + MXNET_JOINT + MXNET_JOINT + b"x" + MXNET_JOINT
    expected = frame(b"1234", FIRST) + frame(b"", MIDDLE) + frame(b"x" + MXNET_JOINT, LAST)
    assert encode_record(payload) == expected


@given(st.lists(st.binary(max_size=9), min_size=2, max_size=5))
def test_parts_of_sagemaker_are_joined_with_nothing_between(parts):
    """Its own reader knows of no word that was dropped."""
    flags = [FIRST, *[MIDDLE] * (len(parts) - 2), LAST]
    assert records(b"".join(map(frame, parts, flags)), joint=b"") == [b"".join(parts)]


@settings(max_examples=40)
@given(st.lists(PAYLOADS, min_size=1, max_size=3))
def test_truncated_at_every_byte(payloads):
    """Whole records before the cut are read; a cut inside one names a byte, one between none."""
    encoded = [encode_record(payload) for payload in payloads]
    data = b"".join(encoded)
    ends = {0, *itertools.accumulate(map(len, encoded))}
    for size in range(len(data)):
        if size in ends:
            assert records(data[:size]) == payloads[: sorted(ends).index(size)]
        else:
            with pytest.raises(RecordError, match=r"there, byte ([0-9]|[1-9][0-9]+): ends"):
                records(data[:size])


def test_cut_is_named_where_it_is():
    """The byte at which the data ends, and the one at which its record starts."""
    data = encode_record(b"12345678") + encode_record(b"12345678")[:-3]
    with pytest.raises(RecordError, match=r"byte 29: ends inside the record of 8.* at byte 16"):
        records(data)


def test_wrong_magic_names_its_byte():
    """Text read as RecordIO says what stands there."""
    with pytest.raises(RecordError, match=r"there, byte 12: has 0x64636261 where .* 0xced7230a"):
        records(encode_record(b"okay") + b"abcdefgh")


@pytest.mark.parametrize("flags", [[MIDDLE], [LAST], [FIRST, FIRST], [FIRST, 0], [5]])
def test_parts_out_of_order(flags):
    """A part that can't stand where it stands is an error, never a shorter record."""
    with pytest.raises(RecordError, match="continuation flag"):
        records(b"".join(frame(b"part", flag) for flag in flags))


def test_last_part_missing():
    """Data that ends between the parts of a record is not whole."""
    with pytest.raises(RecordError, match="byte 12: ends after 1 parts"):
        records(frame(b"part", FIRST))


def test_padding_may_hold_anything():
    """Some writers pad with blanks."""
    assert records(frame(b"abc")[:-1] + b" " + frame(b"d")) == [b"abc", b"d"]


def test_too_long_for_the_format():
    """A length that needs the flag's bits is refused before anything is written."""
    with pytest.raises(RecordError, match="longer than"):
        encode_record(bytes(LONGEST + 1))
