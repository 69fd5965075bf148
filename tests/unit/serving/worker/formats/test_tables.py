"""Arrow and Parquet, for those who install pyarrow; without it the types are refused."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from tests.fuzz import entry

from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.error_replies import BadInput, NotAcceptable, UnsupportedType
from sagemaker_byoc.serving.media import MediaType
from sagemaker_byoc.serving.worker import defaults
from sagemaker_byoc.serving.worker.formats import tables
from sagemaker_byoc.serving.worker.request_context import Context

CONTEXT = Context("/m", "cpu", 0)


@pytest.mark.skipif(tables.is_installed(), reason="pyarrow is installed")
def test_without_pyarrow():
    """The types are neither taken nor offered."""
    assert media.PARQUET not in defaults.SUPPORTED
    with pytest.raises(UnsupportedType):
        defaults.default_input(b"PAR1", MediaType(media.PARQUET), CONTEXT, "absent")


class TestWithPyarrow:
    @pytest.fixture(autouse=True)
    def pyarrow(self):
        pytest.importorskip("pyarrow.parquet", reason="pyarrow is the user's to install")

    @pytest.mark.parametrize("kind", tables.TYPES)
    def test_both_ways(self, kind):
        """Columns of any number type are a matrix, with NaN for null; a matrix is columns."""
        columns = {
            "a": np.array([1, 2]),
            "b": np.array([0.5, np.nan]),
            "c": np.array([True, False]),
        }
        read = self.decode(tables.encode(columns, kind), kind)
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

    @pytest.mark.parametrize("kind", tables.TYPES)
    def test_damaged(self, kind):
        """Bodies with bytes changed: numbers or BadInput."""
        good = tables.encode({"a": np.arange(20), "b": np.ones(20)}, kind)
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
