"""aws-chunked bodies, however they are cut on the way."""

from __future__ import annotations

import pytest

from sagemaker_byoc.region.services.s3.bodies import ChunkedDecoder
from sagemaker_byoc.region.services.s3.store.objects import S3Error

BODY = (
    b"5;chunk-signature=abc\r\nhello\r\n1\r\n \r\nA\r\n0123456789\r\n"
    b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\nx-amz-trailer-signature:def\r\n\r\n"
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_any_cut_gives_the_same(size):
    decoder = ChunkedDecoder()
    data = b"".join(
        bytes(piece)
        for start in range(0, len(BODY), size)
        for piece in decoder.feed(BODY[start : start + size])
    )
    decoder.finish()
    assert data == b"hello 0123456789"
    assert decoder.trailers["x-amz-checksum-crc32"] == "AAAAAA=="


def test_without_the_last_empty_line():
    decoder = ChunkedDecoder()
    list(decoder.feed(b"0\r\nx-amz-checksum-crc32:AA"))
    decoder.finish()
    assert decoder.trailers == {"x-amz-checksum-crc32": "AA"}


@pytest.mark.parametrize("body", [b"", b"5\r\nhel", b"5\r\nhello\r\n", b"5\r\nhello"])
def test_a_body_that_ends_early(body):
    decoder = ChunkedDecoder()
    list(decoder.feed(body))
    with pytest.raises(S3Error, match="IncompleteBody"):
        decoder.finish()


@pytest.mark.parametrize(
    "body", [b"zz\r\n", b"-1\r\n", b"1\r\nab\r\n", b"\r\n", b"1" * 9000, b"1;" + b"x" * 9000]
)
def test_what_is_no_such_body(body):
    with pytest.raises(S3Error, match="InvalidRequest"):
        list(ChunkedDecoder().feed(body))
