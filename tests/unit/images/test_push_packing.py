"""Layers packed by several threads."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from sagemaker_byoc.contract.errors import MachineError
from sagemaker_byoc.images.errors import HostileError
from sagemaker_byoc.images.push.packing import BLOCK, packed
from sagemaker_byoc.images.push.slices import Slice, scratch, spooled

NOISE = random.Random(7).randbytes(3 * BLOCK)
TEXT = b"".join(b"%d bottles of beer on the wall\n" % n for n in range(60_000))


def pack(data, workers):
    with (
        ThreadPoolExecutor(workers) as pool,
        spooled(io.BytesIO(data)) as plain,
        packed(plain, pool) as made,
    ):
        return b"".join(made.content), made.digest, made.diff_id


@pytest.mark.parametrize(
    "data",
    [b"", b"x", NOISE[:BLOCK], NOISE[: BLOCK + 1], NOISE, TEXT, bytes(2 * BLOCK)],
    ids=["nothing", "one", "block", "block and one", "noise", "text", "zeros"],
)
def test_any_reader_takes_it(data):
    result, digest, diff_id = pack(data, 3)
    reader = zlib.decompressobj(31)
    assert reader.decompress(result) == data
    assert reader.eof
    assert reader.unused_data == b""
    assert gzip.decompress(result) == data
    assert digest == f"sha256:{hashlib.sha256(result).hexdigest()}"
    assert diff_id == f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_the_same_bytes_with_any_number_of_threads():
    assert pack(TEXT, 1) == pack(TEXT, 5)


def test_as_small_as_by_one_compressor():
    assert len(pack(TEXT, 2)[0]) < 1.02 * len(gzip.compress(TEXT, 6))


def test_what_the_listener_raises_ends_it():
    def enough(_):
        raise KeyboardInterrupt

    with (
        ThreadPoolExecutor(2) as pool,
        spooled(io.BytesIO(NOISE)) as plain,
        pytest.raises(KeyboardInterrupt),
        packed(plain, pool, enough),
    ):
        pass


def test_a_full_disk_says_where():
    with pytest.raises(MachineError, match=r"no room in .*MiB are free") as caught, scratch():
        raise OSError(28, "No space left on device")
    assert "TMPDIR" in caught.value.hint


def test_a_file_that_shrinks_is_not_read_for_ever(tmp_path):
    path = tmp_path / "layer"
    path.write_bytes(b"12345")
    with path.open("rb") as file, pytest.raises(HostileError, match="shorter"):
        list(Slice(file, 0, 10))
