"""The object store's own promises, without S3 in front."""

from __future__ import annotations

import os
import random
import shutil
import threading

import pytest

from sagemaker_byoc.contract import folders
from sagemaker_byoc.region.services.s3.store.keys import encode, join
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.s3.store.objects import S3Error, parse_s3_uri
from sagemaker_byoc.region.wire.operations import AwsError

HAZARDS = [
    *["a", "a/b", "a/", "a//", "a//b", "/", "//", "/a", ".", "..", "../x", "a/../b", "./a"],
    *[
        "a-b",
        "a.b",
        "a b",
        " ",
        "%",
        "a%2F",
        "100%",
        "%_",
        "%-",
        "a%",
        "%2E",
        "A",
        "\\x",
        "é",
        "😀",
    ],
    *["\x00\x01", "a\nb", "x" * 1024, "é" * 512, "y" * 200, "y" * 201, "y" * 300, "y" * 200 + "."],
    *["y" * 200 + "..", "y" * 300 + "/z", "\x01" * 500, "a/" * 100, "😀" * 50 + "a", "😀" * 51],
]


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Without the waits for the disk, of which no test here could see an effect."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    store = ObjectStore(tmp_path / "s3")
    store.create_bucket("bucket")
    return store


def keys(store, prefix="", after=""):
    return [info.key for info in store.list("bucket", prefix, after)]


@pytest.mark.parametrize("fold", [False, True])
def test_every_key_is_a_path_and_every_path_a_key(fold):
    paths = ["/".join(encode(key, fold=fold)) for key in HAZARDS]
    assert len({path.casefold() for path in paths} if fold else set(paths)) == len(HAZARDS)
    for key, path in zip(HAZARDS, paths, strict=True):
        assert join(path.split("/")) == key
        for part in path.split("/"):
            assert part not in {"", ".", ".."}
            assert len(part.encode()) <= 204


def test_keys_that_meet_on_the_file_system_stay_apart(store):
    """Whichever comes first; and an object does not hide one below it."""
    for order in (HAZARDS, HAZARDS[::-1]):
        for key in order:
            store.put_bytes("bucket", key, key.encode())
        assert keys(store) == sorted(HAZARDS, key=str.encode)
        for key in order:
            assert store.get("bucket", key).path.read_bytes() == key.encode()
            store.delete("bucket", key)
            with pytest.raises(S3Error, match="NoSuchKey"):
                store.get("bucket", key)
        assert keys(store) == []


def test_plain_keys_are_plain_files(store, tmp_path):
    store.put_bytes("bucket", "train/part one.csv", b"1,2")
    assert (tmp_path / "s3/bucket/train/part one.csv").read_bytes() == b"1,2"


@pytest.mark.slow
def test_random_puts_deletes_and_lists_agree_with_a_dictionary(store):
    random_ = random.Random(5)
    alphabet = ["a", "b", "/", "é", ".", "%", "-", "y" * 150, "\x01"]
    names = {"".join(random_.choices(alphabet, k=random_.randint(1, 6))) for _ in range(150)}
    names = sorted(name for name in names if len(name.encode()) <= 1024)
    model = {}
    for turn in range(300):
        key = random_.choice(names)
        if random_.random() < 0.3:
            store.delete("bucket", key)
            model.pop(key, None)
        else:
            model[key] = str(turn).encode()
            store.put_bytes("bucket", key, model[key], metadata={"turn": str(turn)})
    ordered = sorted(model, key=str.encode)
    for key in ordered:
        stored = store.get("bucket", key)
        assert stored.path.read_bytes() == model[key]
        assert stored.info.metadata == {"turn": model[key].decode()}
    for _ in range(200):
        prefix, after = random_.choice(names)[: random_.randint(0, 4)], random_.choice(names)
        expected = [k for k in ordered if k.startswith(prefix) and k.encode() > after.encode()]
        assert keys(store, prefix, after) == expected
    assert store.sweep() == 0
    for key in ordered:
        store.delete("bucket", key)
    assert not list((store.uploads.parent / "bucket").iterdir())


def test_a_bytes_file_is_never_written_again(store, tmp_path):
    """A channel of a running job may have a hard link to it."""
    store.put_bytes("bucket", "k", b"old")
    linked = tmp_path / "linked"
    os.link(store.get("bucket", "k").path, linked)
    store.put_bytes("bucket", "k", b"new")
    assert linked.read_bytes() == b"old"
    assert store.get("bucket", "k").path.read_bytes() == b"new"


def test_a_file_copied_into_the_bucket_is_an_object(store, tmp_path):
    folder = tmp_path / "s3/bucket/by/hand"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("x")
    (info,) = store.list("bucket")
    assert (info.key, info.size, info.content_type) == ("by/hand/a.txt", 1, "binary/octet-stream")
    assert info.etag.endswith("-1"), "no client may take it for an MD5"
    before = info.etag
    (folder / "a.txt").write_text("xy")
    assert store.get("bucket", "by/hand/a.txt").info.etag != before


def test_attributes_of_an_object_never_go_to_another(store, tmp_path):
    """Overwritten by hand, an object loses its ETag rather than keep a wrong one."""
    store.put_bytes("bucket", "k", b"old", metadata={"a": "b"}, content_type="text/plain")
    path = tmp_path / "s3/bucket/k"
    path.unlink()
    path.write_bytes(b"own")
    info = store.get("bucket", "k").info
    assert (info.metadata, info.content_type) == ({}, "binary/octet-stream")


def test_everything_is_found_again(store, tmp_path):
    store.put_bytes("bucket", "k", b"1", metadata={"a": "b"})
    again = ObjectStore(tmp_path / "s3")
    assert [bucket.name for bucket in again.buckets()] == ["bucket"]
    assert again.buckets()[0].created == store.buckets()[0].created
    assert again.get("bucket", "k") == store.get("bucket", "k")


def test_a_crash_between_the_two_renames_leaves_the_old_object(store, tmp_path, monkeypatch):
    """The new attributes are in place, the data is not; they are swept at the next start."""
    old = store.put_bytes("bucket", "k", b"old", metadata={"v": "old"})
    replace = os.replace

    def crash(source, target):
        if "attributes" not in str(source):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", crash)
    monkeypatch.setattr(os, "unlink", lambda path: None)
    writer = store.open_writer("bucket", "k", metadata={"v": "new"})
    writer.write(b"newer")
    monkeypatch.setattr(writer, "abort", lambda: None)
    with pytest.raises(KeyboardInterrupt):
        writer.commit()
    monkeypatch.undo()
    attributes = tmp_path / "s3/.attributes/bucket"
    assert len(list(attributes.glob("k%*"))) == 2
    again = ObjectStore(tmp_path / "s3")
    assert again.get("bucket", "k").info == old
    assert again.get("bucket", "k").path.read_bytes() == b"old"
    assert len(list(attributes.glob("k%*"))) == 1
    assert not list((tmp_path / "s3/.new").iterdir())
    os.close(writer.file)


def test_nothing_is_seen_of_a_put_before_its_commit(store, tmp_path):
    with store.open_writer("bucket", "k") as writer:
        writer.write(b"half")
        assert keys(store) == []
    assert keys(store) == []
    assert not list((tmp_path / "s3/.new").iterdir())
    with pytest.raises(ValueError, match="ended"):
        writer.commit()


@pytest.mark.parametrize("move", [False, True])
def test_put_file(store, tmp_path, move):
    source = tmp_path / "source"
    source.write_bytes(b"hello")
    info = store.put_file("bucket", "k", source, content_type="text/plain", move=move)
    assert info.etag == "5d41402abc4b2a76b9719d911017c592"
    assert store.get("bucket", "k").path.read_bytes() == b"hello"
    assert source.exists() is not move


def test_a_move_that_fails_leaves_its_source(store, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"hello")

    class RefusedError(Exception):
        pass

    def refuse(_):
        raise RefusedError

    with store.open_writer("bucket", "k") as writer:
        assert writer.take(source)
        with pytest.raises(RefusedError):
            writer.commit(refuse)
    assert source.read_bytes() == b"hello"
    assert keys(store) == []


def _is_of_one_put(store, key):
    try:
        file, stored = store.open("bucket", key)
    except S3Error:
        return True
    with open(file, "rb") as data:
        return data.read().decode() == stored.info.metadata["text"]


def test_many_threads_on_few_keys(store):
    """Each reader sees bytes and attributes of one put; the last one stays whole."""
    names = ["a", "a/b", "a/b/c"]
    failures = []
    stop = threading.Event()

    def write(seed):
        random_ = random.Random(seed)
        for turn in range(60):
            key = random_.choice(names)
            if random_.random() < 0.2:
                store.delete("bucket", key)
            else:
                text = f"{seed}-{turn}" * random_.randint(1, 50)
                store.put_bytes("bucket", key, text.encode(), metadata={"text": text})

    def read():
        while not stop.is_set():
            failures.extend(key for key in names if not _is_of_one_put(store, key))
            keys(store)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    reader.start()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=60)
    stop.set()
    reader.join(timeout=60)
    assert failures == []
    assert not reader.is_alive()
    assert set(keys(store)) <= set(names)


def test_buckets(store):
    for name in ("ab", "Bucket", "a_b", "a..b", "10.0.0.1", "-ab", "x" * 64, ".attributes", "a/b"):
        with pytest.raises(S3Error, match="InvalidBucketName"):
            store.create_bucket(name)
        assert not store.has_bucket(name)
    with pytest.raises(S3Error, match="BucketAlreadyOwnedByYou"):
        store.create_bucket("bucket")
    store.put_bytes("bucket", "k", b"")
    with pytest.raises(S3Error, match="BucketNotEmpty"):
        store.delete_bucket("bucket")
    store.delete("bucket", "k")
    store.delete_bucket("bucket")
    for refused in (store.delete_bucket, store.list, lambda b: store.put_bytes(b, "k", b"")):
        with pytest.raises(S3Error, match="NoSuchBucket"):
            list(refused("bucket") or [])


def test_a_bucket_that_is_deleted_during_a_put_does_not_come_back(store, tmp_path):
    with store.open_writer("bucket", "k") as writer:
        store.delete_bucket("bucket")
        with pytest.raises(S3Error, match="NoSuchBucket"):
            writer.commit()
    assert not (tmp_path / "s3/bucket").exists()


def test_folders_that_come_and_go_by_hand(store, tmp_path):
    """The store knows folders from earlier puts."""
    for _ in range(2):
        store.put_bytes("bucket", "a/b/c", b"1")
        store.put_bytes("bucket", "a/b/d", b"1")
        shutil.rmtree(tmp_path / "s3/bucket/a")
        store.put_bytes("bucket", "a/b/d", b"2")
        assert keys(store) == ["a/b/d"]
        (tmp_path / "s3/bucket/a/b/e").mkdir()
        store.put_bytes("bucket", "a/b/e", b"3")
        assert keys(store) == ["a/b/d", "a/b/e"]
        store.delete("bucket", "a/b/e")
        store.delete("bucket", "a/b/d")
        (tmp_path / "s3/bucket/a/b/e").rmdir()
        (tmp_path / "s3/bucket/a").rename(tmp_path / "s3/bucket/z")
        (tmp_path / "s3/bucket/a").write_bytes(b"now a file")
        store.put_bytes("bucket", "a/b/c", b"4")
        assert keys(store) == ["a", "a/b/c"]
        store.delete("bucket", "a/b/c")
        store.delete("bucket", "a")
        shutil.rmtree(tmp_path / "s3/bucket/z")
    shutil.rmtree(tmp_path / "s3/bucket")
    with pytest.raises(S3Error, match="NoSuchBucket"):
        store.put_bytes("bucket", "a/b/c", b"5")
    writer = store.make_writer("bucket", "k")
    with writer, pytest.raises(S3Error, match="NoSuchBucket"):
        writer.commit()
    assert not list((tmp_path / "s3/.new").iterdir())


def test_what_a_deletion_left_is_not_in_the_next_bucket(store, monkeypatch):
    """Uploads that have begun, whose folder could not be removed."""
    left = store.uploads / "bucket" / "upload"
    left.mkdir(parents=True)
    monkeypatch.setattr(folders, "remove", lambda _: None)
    store.delete_bucket("bucket")
    assert left.exists()
    store.create_bucket("bucket")
    assert not left.exists()


def test_a_key_over_1024_bytes_is_refused(store):
    with pytest.raises(S3Error, match="KeyTooLongError"):
        store.put_bytes("bucket", "é" * 513, b"")


def test_a_walk_passes_over_a_common_prefix_without_looking(store, tmp_path):
    for key in ("a/1", "a/2", "b", "c/1"):
        store.put_bytes("bucket", key, b"")
    walk = store.walk("bucket")
    assert next(walk)[0] == b"a/1"
    walk.skip(b"a/")
    assert [key for key, _ in walk] == [b"b", b"c/1"]


def test_a_folder_is_read_again_when_it_changed(store):
    for number in range(20):
        store.put_bytes("bucket", f"k{number:02}", b"")
        assert len(keys(store)) == number + 1


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("s3://b", ("b", "")),
        ("s3://b/", ("b", "")),
        ("s3://b/a//c%20d/", ("b", "a//c%20d/")),
    ],
)
def test_uris(uri, parts):
    assert parse_s3_uri(uri) == parts


@pytest.mark.parametrize("uri", ["", "b/k", "s3://", "s3:///k", "https://b/k", "S3://b/k"])
def test_what_is_no_uri(uri):
    with pytest.raises(AwsError, match=r"ValidationException.*is not an S3 URI"):
        parse_s3_uri(uri)
