"""Decoders and encoders."""

from __future__ import annotations

import contextlib
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.support.arrays import npy

from sagemaker_byoc.serving.error_replies import BadInput, NotAcceptable
from sagemaker_byoc.serving.media import MediaType
from sagemaker_byoc.serving.worker.formats import codecs, csv_format

PLAIN = MediaType("x/y")
CHARSETS = st.sampled_from(["utf-8", "utf-16", "iso-8859-1", "unicode_escape", "hex", "nonsense"])
JSON_TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
BODIES = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=100).map(str.encode),
    st.text(alphabet='0123456789.,"-einaf \n\r', max_size=60).map(str.encode),
    JSON_TREES.map(lambda tree: json.dumps(tree).encode()),
    JSON_TREES.map(lambda tree: json.dumps({"instances": tree}).encode()),
    st.binary(max_size=120).map(lambda tail: b"\x93NUMPY\x01\x00\x40\x00" + tail),
    st.text(max_size=80).map(lambda head: b"\x93NUMPY\x01\x00\x50\x00" + head.encode()),
)
DECODERS = [
    codecs.decode_json,
    codecs.decode_json_lines,
    lambda data, media_type: codecs.decode_csv(data, media_type, header="auto"),
    lambda data, _: codecs.decode_npy(data),
]


@pytest.mark.parametrize("decode", DECODERS)
@settings(max_examples=60)
@given(body=BODIES, charset=CHARSETS)
def test_only_the_typed_error(decode, body, charset):
    """Whatever a caller sends, the answer is numbers or BadInput."""
    with contextlib.suppress(BadInput):
        decode(body, MediaType("x/y", {"charset": charset}))


@pytest.mark.slow
@given(hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)))
def test_npy_round_trip(array):
    """What numpy saves of numbers, we read; all else is refused."""
    body = npy(array)
    if array.dtype.kind in codecs.NUMBERS:
        read = codecs.decode_npy(body)
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)
    else:
        with pytest.raises(BadInput):
            codecs.decode_npy(body)


def test_npy_of_wrong_size():
    """A header that promises more than there is allocates nothing."""
    forged = npy(np.zeros(10)).replace(b"(10,)", b"(99,)")
    with pytest.raises(BadInput, match="another size"):
        codecs.decode_npy(forged)


def test_npy_is_not_copied():
    """The array lies in the body itself."""
    body = npy(np.zeros(10))
    assert codecs.decode_npy(body).base is not None


def test_null_is_nan():
    """JSON has null for what is not a number, in both directions."""
    array, _ = codecs.decode_json(b"[1, null]", PLAIN)
    assert np.isnan(array[1])
    assert codecs.encode_json(array) == b"[1.0,null]"


def test_json_of_float32():
    """The shortest text that reads back as the same float32."""
    assert codecs.encode_json(np.array([0.1], np.float32)) == b"[0.1]"


@pytest.mark.parametrize(
    "value", [np.float16(1), np.array([[1, 2]]).T, np.int64(1), [np.array([1])]]
)
def test_json_of_arrays(value):
    """Scalars, columns and lists of arrays are JSON too."""
    assert codecs.encode_json(value).startswith((b"1", b"["))


def test_json_lines():
    """Rows in, rows out, one a line."""
    array = codecs.decode_json_lines(b'[1, 2]\n\n{"features": [3, 4]}\r\n', PLAIN)
    assert codecs.encode_json_lines(array) == b"[1,2]\n[3,4]\n"


@pytest.mark.parametrize(
    ("policy", "parameters", "body", "rows"),
    [
        ("absent", {}, b"1,2", [[1, 2]]),
        ("present", {}, b"a,b\r\n1,2\r\n", [[1, 2]]),
        ("auto", {}, b"a,b\n1,2\n", [[1, 2]]),
        ("auto", {}, b"3,4\n\n1,2\n", [[3, 4], [1, 2]]),
        ("absent", {"header": "present"}, b"0,0\n1,2\n", [[1, 2]]),
        ("present", {"header": "absent"}, b'"1",2\n', [[1, 2]]),
    ],
)
def test_csv_header(policy, parameters, body, rows):
    """The parameter of the type comes before the setting; auto looks at the first row."""
    array = codecs.decode_csv(body, MediaType("text/csv", parameters), header=policy)
    assert array.tolist() == rows


@pytest.mark.parametrize(
    "body",
    [
        "1,2\n3,4",
        "1,2\r\n3,4\r\n",
        "\n\n1,2\n\n\n3,4\n\n",
        " 1 , 2 \n3,4",
        "1.,.2e1\n+3,004",
        '"1","2"\n3,4',
        "1,2\r3,4",
    ],
)
def test_csv_in_any_form(body):
    """The quick way for plain numbers and the slow one for all others agree with RFC 4180."""
    array = codecs.decode_csv(body.encode(), PLAIN, header="absent")
    assert array.tolist() == [[1, 2], [3, 4]]
    assert array.dtype == (np.float64 if "e" in body else np.int64)


@pytest.mark.parametrize(
    "body",
    ["1],[2", "1,2\n3", "true,1", "[1,2]", "1 2", "1,\r2", "-", "\n \n", '"1"2', "1_0", "\u0661"],
)
def test_csv_is_not_json(body):
    """What JSON would take and CSV has no form for stays an error."""
    with pytest.raises(BadInput):
        codecs.decode_csv(body.encode(), PLAIN, header="absent")


def test_csv_beyond_float32():
    """Numbers that a smaller float can't hold are kept, either way."""
    quick = codecs.decode_csv(b"1e39,1", PLAIN, header="absent")
    slow = codecs.decode_csv(b'"1e39",1', PLAIN, header="absent")
    assert quick.tolist() == slow.tolist() == [[1e39, 1]]


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.array(1.5), "1.5\n"),
        (np.array([1, 2]), "1\n2\n"),
        (np.array([[0.1, 2]], np.float32), "0.1,2.0\n"),
    ],
)
def test_csv_rows_end(array, text):
    """Each row ends with a newline, so that outputs can be put together."""
    assert csv_format.encode(array).decode() == text


def test_csv_has_two_dimensions():
    """More do not fit, and the message says what does."""
    with pytest.raises(NotAcceptable, match="application/json"):
        csv_format.encode(np.zeros((1, 2, 3)))


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (b"NaN\n[1]", None),
        (b"[NaN, 1]\n[-Infinity, NaN]", [[math.nan, 1], [-math.inf, math.nan]]),
        (b'{"features": [NaN]}\n\n \t\r\n{"features": [2]}\n', [[math.nan], [2]]),
        (b"\n\n \n1\n\t2\n", [1, 2]),
    ],
)
def test_lines_that_json_has_not(body, rows):
    """NaN with text and without it, and blank lines, are read as Python's json and editors do."""
    if rows is None:
        with pytest.raises(BadInput):
            codecs.decode_json_lines(body, PLAIN)
    else:
        np.testing.assert_array_equal(codecs.decode_json_lines(body, PLAIN), rows)


@pytest.mark.parametrize("line", [b"\n", b" \n", b"NaN\n"])
def test_lines_without_exceptions(line, monkeypatch):
    """An exception for each line would take half a minute for 24 MB."""
    monkeypatch.setattr(codecs, "_line", None)
    count = line.count(b"N") // 2
    assert codecs.decode_json_lines(line * 9, PLAIN).size == 9 * count
