"""Checksums against the check values of their catalogue, and combined over parts."""

from __future__ import annotations

import os

import pytest

from sagemaker_byoc.region.services.s3.store import checksums

CHECK = {
    "crc32": "cbf43926",
    "crc32c": "e3069283",
    "crc64nvme": "ae8b14860a799888",
    "sha1": "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
    "sha256": "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
}
"""Checksums of `123456789`; those of CRCs are from reveng's catalogue."""


@pytest.mark.parametrize(("algorithm", "value"), CHECK.items())
def test_check_values(algorithm, value):
    running = checksums.start(algorithm)
    running.update(b"1234")
    running.update(memoryview(b"56789"))
    assert running.digest().hex() == value


@pytest.mark.parametrize("algorithm", ["crc32", "crc32c", "crc64nvme"])
def test_the_crc_of_the_whole_from_those_of_the_parts(algorithm):
    def crc(data):
        running = checksums.start(algorithm)
        running.update(data)
        return checksums.encode(running.digest())

    parts = [os.urandom(size) for size in (1, 0, 1000, 77)]
    combined = checksums.full_object(algorithm, [(crc(part), len(part)) for part in parts])
    assert combined == crc(b"".join(parts))


def test_composite_counts_its_parts():
    assert checksums.composite("crc32", ["AAAAAA==", "AAAAAA=="]).endswith("-2")
