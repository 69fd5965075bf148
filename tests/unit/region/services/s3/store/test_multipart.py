"""Uploads in parts: where their bytes go, and what is refused."""

from __future__ import annotations

import hashlib
import os

import pytest

from sagemaker_byoc.region.services.s3.store.multipart import Uploads, Wanted
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.s3.store.objects import Attributes, S3Error
from sagemaker_byoc.region.services.s3.store.part_files import MIN_PART

KEY = "a/model.tar.gz"


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)
    store = ObjectStore(tmp_path / "s3")
    store.create_bucket("bucket")
    return store


@pytest.fixture
def uploads(store):
    return Uploads(store)


def begin(uploads):
    return uploads.create("bucket", KEY, Attributes(etag="", metadata={"a": "b"}), "")


def send(uploads, upload, number, data):
    writer = uploads.open_part("bucket", upload, number, len(data))
    writer.write(data)
    return writer.commit("")


def finish(uploads, upload, parts):
    wanted = [Wanted(part.number, part.etag) for part in parts]
    return uploads.complete("bucket", upload, wanted, None)


def content(letters):
    return [letter.encode() * MIN_PART for letter in letters]


def test_parts_of_one_size_are_put_together_without_a_copy(uploads, store):
    """In any order of arrival, and with a shorter last one."""
    upload = begin(uploads)
    data = [*content("ab"), b"tail"]
    parts = {number: send(uploads, upload, number, data[number - 1]) for number in (2, 1, 3)}
    assert {part.file for part in parts.values()} == {"body"}
    body = store.uploads / "bucket" / upload.id / "body"
    inode = body.stat().st_ino
    info = finish(uploads, upload, [parts[1], parts[2], parts[3]])
    stored = store.get("bucket", KEY)
    assert stored.path.stat().st_ino == inode
    assert stored.path.read_bytes() == b"".join(data)
    digest = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in data)).hexdigest()
    assert info.etag == f"{digest}-3"
    assert stored.info.attributes.parts == (MIN_PART, MIN_PART, 4)
    assert stored.info.metadata == {"a": "b"}
    assert not (store.uploads / "bucket" / upload.id).exists()


@pytest.mark.parametrize(
    ("numbers", "sizes"),
    [
        ((1, 3), (0, 0)),
        ((1, 2), (0, 7)),
        ((2, 9000), (3, 1)),
        ((1,), (-MIN_PART + 5,)),
    ],
)
def test_parts_of_any_sizes_and_numbers(uploads, store, numbers, sizes):
    upload = begin(uploads)
    data = [bytes([65 + index]) * (MIN_PART + size) for index, size in enumerate(sizes)]
    parts = [
        send(uploads, upload, number, part) for number, part in zip(numbers, data, strict=True)
    ]
    finish(uploads, upload, parts)
    assert store.get("bucket", KEY).path.read_bytes() == b"".join(data)


def test_a_part_that_comes_again_replaces_the_first(uploads, store):
    upload = begin(uploads)
    a, b, c = content("abc")
    send(uploads, upload, 1, a)
    second = send(uploads, upload, 2, b"end")
    again = send(uploads, upload, 1, b)
    once_more = send(uploads, upload, 1, c)
    assert uploads.parts("bucket", upload)[1] == once_more
    with pytest.raises(S3Error, match="InvalidPart"):
        finish(uploads, upload, [again, second])
    finish(uploads, upload, [once_more, second])
    assert store.get("bucket", KEY).path.read_bytes() == c + b"end"


def test_a_part_that_is_still_being_written_can_not_change_the_object(uploads, store):
    """A client that gave up on a request and completed without it."""
    upload = begin(uploads)
    (a, b) = content("ab")
    first = send(uploads, upload, 1, a)
    late = uploads.open_part("bucket", upload, 2, MIN_PART)
    late.write(b[:100])
    finish(uploads, upload, [first])
    late.write(b[100:])
    with pytest.raises(S3Error, match="NoSuchUpload"):
        late.commit("")
    assert store.get("bucket", KEY).path.read_bytes() == a


def test_an_upload_goes_on_after_a_restart(uploads, store, tmp_path):
    upload = begin(uploads)
    (a,) = content("a")
    first = send(uploads, upload, 1, a)
    again = Uploads(ObjectStore(tmp_path / "s3"))
    found = again.get("bucket", KEY, upload.id)
    second = send(again, found, 2, b"end")
    finish(again, found, [first, second])
    assert store.get("bucket", KEY).path.read_bytes() == a + b"end"


def test_what_is_refused_keeps_the_upload(uploads):
    upload = begin(uploads)
    small = send(uploads, upload, 1, b"small")
    last = send(uploads, upload, 2, b"last")
    for parts, code in (
        ([small, last], "EntityTooSmall"),
        ([last, small], "InvalidPartOrder"),
        ([small, small], "InvalidPartOrder"),
        ([small, Wanted(3, "0" * 32)], "InvalidPart"),
    ):
        with pytest.raises(S3Error, match=code):
            finish(uploads, upload, parts)
    assert list(uploads.parts("bucket", upload)) == [1, 2]
    assert finish(uploads, upload, [small]).size == 5


def test_a_completion_that_fails_loses_no_part(uploads, store):
    """Though it named fewer of them than the next one does."""
    upload = begin(uploads)
    data = [*content("ab"), b"tail"]
    parts = [send(uploads, upload, number, part) for number, part in enumerate(data, 1)]

    def refuse(current):
        raise S3Error("PreconditionFailed", "")

    with pytest.raises(S3Error, match="PreconditionFailed"):
        uploads.complete("bucket", upload, [Wanted(1, parts[0].etag)], refuse)
    finish(uploads, upload, parts)
    assert store.get("bucket", KEY).path.read_bytes() == b"".join(data)


def test_an_aborted_upload_is_gone(uploads, store):
    upload = begin(uploads)
    writer = uploads.open_part("bucket", upload, 1, MIN_PART)
    uploads.drop("bucket", upload)
    with pytest.raises(S3Error, match="NoSuchUpload"):
        writer.commit("")
    with pytest.raises(S3Error, match="NoSuchUpload"):
        uploads.open_part("bucket", upload, 2, 5)
    assert uploads.all("bucket") == []
    assert list(store.list("bucket")) == []
