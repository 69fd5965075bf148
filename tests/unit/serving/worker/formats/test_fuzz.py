"""Malformed bodies and headers: a typed refusal, in bounded time and memory, whatever comes."""

from __future__ import annotations

import io
import json
import struct
import time
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.fuzz import entry
from tests.support import arrays

from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.error_replies import BadInput, NotAcceptable
from sagemaker_byoc.serving.worker import defaults
from sagemaker_byoc.serving.worker.formats import codecs, named_arrays
from sagemaker_byoc.serving.worker.request_context import Context

CONTEXT = Context("/m", "cpu", 0)


def npy(array, header=None):
    data = arrays.npy(array)
    if header is None:
        return data
    text = header.ljust(118).encode() + b"\n"
    return data[:8] + struct.pack("<H", len(text)) + text


def npz(array):
    stream = io.BytesIO()
    np.savez_compressed(stream, a=array, b=array)
    return stream.getvalue()


SEEDS = {
    media.JSON: b'{"instances": [[1, 2], [3, null]]}',
    media.JSON_LINES: b'[1, 2]\n{"features": [3, 4]}\n',
    media.CSV: b'a,b\n1,"2"\n3,4\n',
    media.NPY: npy(np.ones((2, 2), np.float32)),
    media.NPZ: npz(np.ones((2, 2), np.float32)),
    media.SAFETENSORS: named_arrays.encode_safetensors({"a": np.ones((2, 2)), "b": np.ones(3)}),
}


@st.composite
def mutated(draw):
    """A good body with bytes changed, cut out or put in, or no good body at all."""
    kind = draw(st.sampled_from(sorted(SEEDS)))
    body = bytearray(SEEDS[kind])
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        body[start : start + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return kind, bytes(body)


@settings(max_examples=150, deadline=5000)
@given(
    mutated(),
    st.sampled_from(entry.CHARSETS),
    st.sampled_from(entry.HEADERS),
)
def test_bodies(chosen, charset, header):
    """Decoded or refused, and what was decoded is encoded or refused."""
    kind, body = chosen
    assert entry.decode_and_encode(kind, charset, header, body) in {200, 400}


@settings(max_examples=200, deadline=5000)
@given(st.text(alphabet='abq/*;,="\\ .01', max_size=60) | st.text(max_size=40))
@example('"')
@example('a/b;c="\\')
@example('text/csv;q=0.5, "x, application/json')
def test_headers(text):
    """Any text is a header."""
    entry.headers(text)


@pytest.mark.parametrize("piece", ['a\\"', '"a', ";", "; ", ",", '",', "a/b,"])
def test_headers_take_linear_time(piece):
    """Eight times the length is far from 64 times the work."""

    def work(length):
        text = ('"' + piece * length)[:length]
        media.parse_accept.cache_clear()
        began = time.process_time()
        media.parse_accept(text)
        return time.process_time() - began

    work(1000)
    short = max(min(work(4000) for _ in range(3)), 0.01)
    assert min(work(32_000) for _ in range(3)) < 40 * short


# ── what the fuzzer, or thought, has found ──


@pytest.mark.parametrize("shape", [(1,) * 70, (0, 2**62, 2**62), (0, 2**70)])
def test_npy_shapes_that_numpy_refuses(shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    data = npy(np.empty(0), header.ljust(400)) + (b"" if 0 in shape else bytes(4))
    with pytest.raises(BadInput):
        codecs.decode_npy(data)


def test_safetensors_shape_without_end():
    header = json.dumps({"a": {"dtype": "F32", "shape": [0, 2**70], "data_offsets": [0, 0]}})
    body = len(header).to_bytes(8, "little") + header.encode()
    with pytest.raises(BadInput):
        named_arrays.decode_safetensors(body)


def test_safetensors_that_overlap():
    """A thousand names for one tensor would be a thousand copies of it."""
    entries = {
        f"{n}": {"dtype": "F64", "shape": [100], "data_offsets": [0, 800]} for n in range(1000)
    }
    header = json.dumps(entries).encode()
    with pytest.raises(BadInput, match="overlap"):
        named_arrays.decode_safetensors(len(header).to_bytes(8, "little") + header + bytes(800))


@pytest.mark.slow
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_npz_that_lies_about_its_size(method):
    """Small by its own word, and 64 MB once unpacked: refused, and never unpacked as a whole."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("a.npy", bytes(64 * 2**20))
    body = stream.getvalue()
    lie = struct.pack("<L", 128)
    body = body.replace(struct.pack("<L", 64 * 2**20), lie)
    tracemalloc.start()
    try:
        with pytest.raises(BadInput):
            named_arrays.decode_npz(body)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_npz_with_a_sum_that_fits_its_lie():
    """The same, with the checksum of what the reader would see."""
    inner = npy(np.ones(4, np.float32))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", inner + bytes(2**20))
    body = stream.getvalue()
    for true, lie in (
        (len(inner) + 2**20, len(inner)),
        (zlib.crc32(inner + bytes(2**20)), zlib.crc32(inner)),
    ):
        body = body.replace(struct.pack("<L", true), struct.pack("<L", lie))
    assert named_arrays.decode_npz(body)["a"].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("value", "accept"),
    [
        (np.ones(2, np.complex64), media.JSON),
        (np.ones(2, np.complex64), media.SAFETENSORS),
        ({"a": np.ones(2), "b": np.ones(3)}, media.CSV),
        ([[1, 2], [3]], media.NPY),
        (np.ones((2, 2, 2)), media.CSV),
    ],
)
def test_results_without_a_form(value, accept):
    """What the model returned can't be written as the caller wishes: 406, not 500."""
    with pytest.raises(NotAcceptable):
        defaults.default_output(value, accept, CONTEXT)


def test_long_doubles():
    """numpy's 16-byte floats are numbers in JSON too."""
    written = defaults.default_output(np.ones(2, np.longdouble), media.JSON, CONTEXT)
    assert written == b"[1.0,1.0]"


def test_dict_as_lines():
    """A dict is one line."""
    written = defaults.default_output({"a": np.ones(2)}, media.JSON_LINES, CONTEXT)
    assert written == b'{"a":[1.0,1.0]}\n'
