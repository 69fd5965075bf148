"""Reading bodies to a limit."""

from __future__ import annotations

import io

import pytest

from sagemaker_byoc.serving.errors import BadInput, PayloadTooLarge, SlowUpload
from sagemaker_byoc.serving.front import body
from sagemaker_byoc.serving.link import INLINE


@pytest.mark.parametrize("size", [0, 1, INLINE, INLINE + 1, 3 * INLINE])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_whole(size, is_chunked):
    """Small or large, the bytes are those that were sent."""
    data = bytes(i % 251 for i in range(size))
    length = None if is_chunked else size
    read = body.read_body(io.BytesIO(data), length=length, limit=size)
    assert (read.size, bytes(read.view()[:])) == (size, data)
    assert (read.descriptor is not None) == (size > INLINE)


@pytest.mark.parametrize("length", [None, 101])
def test_one_too_many(length):
    """One byte over the limit is refused, and what was sent is taken in first."""
    stream = io.BytesIO(bytes(101))
    with pytest.raises(PayloadTooLarge):
        body.read_body(stream, length=length, limit=100)
    assert not stream.read()


def test_drain_is_bounded(monkeypatch):
    """An endless body is not read for ever."""
    monkeypatch.setattr(body, "DRAIN_SPARE", 0)

    class Endless:
        taken = 0

        def read(self, size):
            self.taken += size
            return bytes(size)

    stream = Endless()
    with pytest.raises(PayloadTooLarge):
        body.read_body(stream, length=10**12, limit=body.PIECE)
    assert stream.taken == 2 * body.PIECE


def test_cut_short():
    """Fewer bytes than announced are not a body."""
    with pytest.raises(BadInput, match="3 of 9"):
        body.read_body(io.BytesIO(b"abc"), length=9, limit=None)


def test_stalled():
    """A client that stops sending is told so."""

    class Stalled:
        def read(self, size):
            raise TimeoutError

    with pytest.raises(SlowUpload):
        body.read_body(Stalled(), length=9, limit=None)
