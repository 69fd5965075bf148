"""Bodies of several arrays by name: .npz, safetensors and, with pyarrow, tables."""

from __future__ import annotations

import contextlib
import io
import json
import random
import zipfile

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.fuzz import entry

from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.error_replies import BadInput, NotAcceptable, UnsupportedType
from sagemaker_byoc.serving.media import MediaType
from sagemaker_byoc.serving.worker import defaults
from sagemaker_byoc.serving.worker.formats import named_arrays
from sagemaker_byoc.serving.worker.request_context import Context

ARRAYS = {"a": np.arange(6, dtype=np.int32).reshape(2, 3), "b": np.float32(0.5) * np.ones((4, 1))}
DTYPES = st.sampled_from([np.dtype(text) for text in named_arrays.DTYPES.values()])
HEADERS = st.dictionaries(
    st.text(max_size=3),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "I8", "BF16", ""]),
            "shape": st.lists(st.integers(-1, 9) | st.booleans() | st.text(max_size=1), max_size=2),
            "data_offsets": st.lists(st.integers(-1, 40), max_size=3),
        }
    )
    | st.integers(),
    max_size=2,
)


def safe(header, tail=b""):
    index = json.dumps(header).encode()
    return len(index).to_bytes(8, "little") + index + tail


def npz(**arrays):
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


@given(hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)))
def test_safetensors_both_ways(array):
    """We read what the library writes, and it reads what we write."""
    read = named_arrays.decode_safetensors(safetensors.numpy.save({"x": array}))["x"]
    np.testing.assert_array_equal(read, array)
    written = safetensors.numpy.load(named_arrays.encode_safetensors({"x": array}))["x"]
    np.testing.assert_array_equal(written, array)


def test_safetensors_is_not_copied():
    """The arrays lie in the body itself."""
    body = safetensors.numpy.save({"x": np.zeros(10, np.float32)})
    assert named_arrays.decode_safetensors(body)["x"].base is not None


@settings(max_examples=200)
@given(st.one_of(st.binary(max_size=60), HEADERS.map(lambda header: safe(header, bytes(20)))))
def test_safetensors_of_anything(body):
    """Whatever is sent, the answer is arrays within the body or BadInput."""
    with contextlib.suppress(BadInput):
        for array in named_arrays.decode_safetensors(body).values():
            assert array.nbytes <= len(body)


@pytest.mark.parametrize(
    "header", [[], {"x": {}}, {"x": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}]
)
def test_safetensors_refused(header):
    """What is not safetensors, or has no form in numpy, is named."""
    with pytest.raises(BadInput, match="not safetensors"):
        named_arrays.decode_safetensors(safe(header, bytes(9)))


def test_npz_both_ways():
    """numpy reads what we write, and we what it writes."""
    written = np.load(io.BytesIO(named_arrays.encode_npz(ARRAYS)))
    read = named_arrays.decode_npz(npz(**ARRAYS))
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array)
        np.testing.assert_array_equal(written[name], array)


def test_npz_bomb(monkeypatch):
    """What unpacks to too much is refused before it is unpacked."""
    monkeypatch.setattr(named_arrays, "UNPACKED", 1000)
    with pytest.raises(BadInput, match="unpacks to more"):
        named_arrays.decode_npz(npz(a=np.zeros(10_000)))


def test_npz_with_pickle():
    """No object is built from a caller's file."""
    with pytest.raises(BadInput, match="pickle"):
        named_arrays.decode_npz(npz(a=np.array([{}])))


@pytest.mark.parametrize("cut", [0, 10, 100, -30, -1])
def test_npz_damaged(cut):
    """A part of a file is not a file."""
    with pytest.raises(BadInput):
        named_arrays.decode_npz(npz(**ARRAYS)[:cut])


def test_npz_with_wrong_sum():
    """Damage inside is noticed."""
    body = bytearray(npz(a=np.arange(1000)))
    body[120] ^= 255
    with pytest.raises(BadInput):
        named_arrays.decode_npz(bytes(body))


def test_zip_of_something_else():
    """A zip file of anything is not one of arrays."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(BadInput, match="npy"):
        named_arrays.decode_npz(stream.getvalue())


@pytest.mark.parametrize("kind", [media.NPZ, media.SAFETENSORS])
def test_defaults(kind):
    """One array is that array, several are a dict; a plain result is called output."""
    context = Context("/m", "cpu", 0)
    one = defaults.default_output(np.ones((2, 2), np.float32), kind, context)
    assert defaults.default_input(one, MediaType(kind), context, "absent").shape == (2, 2)
    several = defaults.default_output(ARRAYS, kind, context)
    read = defaults.default_input(several, MediaType(kind), context, "absent")
    assert {name: tuple(array.shape) for name, array in read.items()} == {"a": (2, 3), "b": (4, 1)}


CONTEXT = Context("/m", "cpu", 0)


@pytest.mark.skipif(named_arrays.has_pyarrow(), reason="pyarrow is installed")
def test_without_pyarrow():
    """The types are neither taken nor offered."""
    assert media.PARQUET not in defaults.SUPPORTED
    with pytest.raises(UnsupportedType):
        defaults.default_input(b"PAR1", MediaType(media.PARQUET), CONTEXT, "absent")


class TestWithPyarrow:
    @pytest.fixture(autouse=True)
    def pyarrow(self):
        pytest.importorskip("pyarrow.parquet", reason="pyarrow is the user's to install")

    @pytest.mark.parametrize("kind", named_arrays.TABLES)
    def test_both_ways(self, kind):
        """Columns of any number type are a matrix, with NaN for null; a matrix is columns."""
        columns = {
            "a": np.array([1, 2]),
            "b": np.array([0.5, np.nan]),
            "c": np.array([True, False]),
        }
        read = self.decode(named_arrays.encode_table(columns, kind), kind)
        np.testing.assert_array_equal(read, np.array([[1, 0.5, 1], [2, np.nan, 0]], np.float32))
        again = self.decode(defaults.default_output(read, kind, CONTEXT), kind)
        np.testing.assert_array_equal(again, read)

    def decode(self, body, kind):
        return np.asarray(defaults.default_input(body, MediaType(kind), CONTEXT, "absent"))

    def test_lists(self):
        """One column of lists of equal length is a matrix."""
        import pyarrow as pa

        column = pa.array([[1, 2, 3], [4, 5, 6]], pa.list_(pa.int8(), 3))
        body = io.BytesIO()
        with pa.ipc.new_stream(body, pa.schema([("x", column.type)])) as writer:
            writer.write(pa.record_batch([column], ["x"]))
        assert self.decode(body.getvalue(), media.ARROW_STREAM).shape == (2, 3)

    def test_text(self):
        """A column without numbers is named."""
        import pyarrow as pa
        import pyarrow.parquet

        body = io.BytesIO()
        pyarrow.parquet.write_table(pa.table({"who": ["a", "b"]}), body)
        with pytest.raises(BadInput, match="'who' is string"):
            self.decode(body.getvalue(), media.PARQUET)

    def test_bomb(self):
        """Two hundred million equal cells in a small file are refused before they are read."""
        import pyarrow as pa
        import pyarrow.parquet

        column = pa.array(np.zeros(10**6, np.int8))
        body = io.BytesIO()
        table = pa.table({f"{n}": column for n in range(70)})
        pyarrow.parquet.write_table(table, body)
        with pytest.raises(BadInput, match="more than"):
            self.decode(body.getvalue(), media.PARQUET)

    @pytest.mark.parametrize("kind", named_arrays.TABLES)
    def test_damaged(self, kind):
        """Bodies with bytes changed: numbers or BadInput."""
        good = named_arrays.encode_table({"a": np.arange(20), "b": np.ones(20)}, kind)
        generator = random.Random(kind)
        for _ in range(150):
            body = bytearray(good)
            for _ in range(generator.randint(1, 3)):
                body[generator.randrange(len(body))] = generator.randrange(256)
            assert entry.decode_and_encode(kind, "utf-8", "absent", bytes(body)) in {200, 400}

    def test_no_table(self):
        """Three dimensions are no table."""
        with pytest.raises(NotAcceptable):
            defaults.default_output(np.ones((2, 2, 2)), media.PARQUET, CONTEXT)
