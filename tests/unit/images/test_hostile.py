"""Archives that mean harm, or are broken: refused with a hint, in bounded memory."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.images import made

from sagemaker_byoc.contract.errors import ByocError
from sagemaker_byoc.images import archive, model, tar
from sagemaker_byoc.images.layers import merge, read_layer
from sagemaker_byoc.images.model import Files, HostileError


def header(size: int, flag: bytes) -> bytes:
    entry = tarfile.TarInfo("x")
    entry.size, entry.type = size, flag
    return entry.tobuf(tarfile.USTAR_FORMAT)


def names(data: bytes) -> list[str]:
    return [entry.name for entry, _ in tar.entries(io.BytesIO(data))]


def test_an_extended_header_of_a_gigabyte_is_not_read():
    with pytest.raises(HostileError, match="header of"):
        names(header(2**30, b"x"))


def test_a_gzip_bomb_stops_at_the_limit():
    inflated = tar.Inflated(io.BytesIO(gzip.compress(bytes(10_000_000))), 1_000_000)
    with pytest.raises(HostileError, match="unpacks to more"):
        all(iter(lambda: inflated.read(2**16), b""))


def test_an_archive_that_ends_early():
    whole = made.layer({"a": b"x" * 5000})
    with pytest.raises(HostileError, match="ends in the middle"):
        names(whole[:2000])


def test_too_many_entries(monkeypatch):
    monkeypatch.setattr(tar, "ENTRIES_LIMIT", 3)
    with pytest.raises(HostileError, match="over 3 entries"):
        names(made.layer({str(number): b"" for number in range(4)}))


@given(st.binary(max_size=2000))
def test_no_bytes_lead_to_anything_but_a_refusal(data):
    with pytest.raises(ByocError):
        archive.read_stream(io.BytesIO(data), "x")


@pytest.mark.slow
@given(st.recursive(st.none() | st.integers() | st.text(), st.lists), st.text(max_size=5))
def test_no_document_leads_to_anything_but_a_refusal(value, key):
    for document in ({"config": value, "layers": value}, {"manifests": value}, {key: value}):
        for parse in (model.parse_manifest, model.parse_config):
            with suppress(ByocError):  # any other error fails the test
                parse(json.dumps(document).encode(), "x")


def test_long_names_and_links_are_read_as_the_standard_library_writes_them():
    long = "a/" * 120 + "file"
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form) as written:
            entry = tarfile.TarInfo(long)
            entry.size = 3
            written.addfile(entry, io.BytesIO(b"abc"))
            link = tarfile.TarInfo("b")
            link.type, link.linkname = tarfile.SYMTYPE, long
            written.addfile(link)
        first, second = read_layer(io.BytesIO(buffer.getvalue()))
        assert (first.path, first.size) == (f"/{long}", 3)
        assert second.link == long


def test_whiteouts_remove_a_file_and_a_folder():
    layers = [
        made.layer({"a/x": b"1", "a/y": b"2", "b/z": b"3", "c": b"4"}),
        made.layer({"a/.wh.x": b"", "b/.wh..wh..opq": b"", "b/new": b"5"}),
    ]
    found = merge([read_layer(io.BytesIO(layer)) for layer in layers])
    assert sorted(found.visible) == ["/a/y", "/b/new", "/c"]


def test_links_are_followed_and_circles_end():
    layer = made.layer({"usr/bin/python": b"x", "bin": b"-> usr/bin", "loop": b"-> loop"})
    files = merge([read_layer(io.BytesIO(layer))])
    found = files.find("/bin/python")
    assert found is not None
    assert found.path == "/usr/bin/python"
    assert files.find("/loop") is None
    assert Files(visible={}).find("/a/b") is None


def test_a_path_that_is_no_archive(tmp_path):
    for path in (tmp_path, tmp_path / "none", tmp_path / "text"):
        (tmp_path / "text").write_text("no archive at all")
        with pytest.raises(ByocError) as caught:
            archive.read_archive(path)
        assert "docker save" in caught.value.hint
