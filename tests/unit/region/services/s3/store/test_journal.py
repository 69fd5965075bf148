"""Group commit and journal: what is acknowledged survives a power cut, in every layout."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

from sagemaker_byoc.region.services.s3.store import journal as journal_module
from sagemaker_byoc.region.services.s3.store.disk import Disk
from sagemaker_byoc.region.services.s3.store.journal import Journal, Kind, Record
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.s3.store.objects import S3Error

LARGE = b"L" * 100_000


class CutDisk(Disk):
    """Keep apart what was synced: `power_cut` returns the store as a power cut would leave it."""

    def __init__(self, root: Path, platter: Path) -> None:
        super().__init__()
        self.root, self.platter = root, platter
        self.on_sync = lambda: None

    def _keep(self, path: Path) -> None:
        kept = self.platter / path.relative_to(self.root)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, kept)

    def sync(self, file: int) -> None:
        self.on_sync()
        self._keep(Path(f"/proc/self/fd/{file}").readlink())

    def sync_new(self, file: int, folder: str) -> None:
        self._keep(Path(f"/proc/self/fd/{file}").readlink())

    def sync_folder(self, path: str) -> None:
        """Names in the root are made durable by `sync_all` in these tests."""

    def sync_all(self, file: int) -> None:
        shutil.rmtree(self.platter, ignore_errors=True)
        shutil.copytree(self.root, self.platter, copy_function=shutil.copy2)


class Inline:
    """An executor without a thread: a checkpoint ends before the next change."""

    def __init__(self, *_, **__):
        pass

    def submit(self, function, *arguments):
        outcome = Future()
        try:
            outcome.set_result(function(*arguments))
        except OSError as error:
            outcome.set_exception(error)
        return outcome

    def shutdown(self):
        pass


@pytest.fixture(autouse=True)
def inline(monkeypatch):
    monkeypatch.setattr(journal_module, "ThreadPoolExecutor", Inline)


@pytest.fixture
def disk(tmp_path):
    return CutDisk(tmp_path / "s3", tmp_path / "platter")


@pytest.fixture
def store(tmp_path, disk):
    store = ObjectStore(tmp_path / "s3", disk)
    store.create_bucket("bucket")
    for name in ("replaced", "deleted", "tagged", "bucket-deleted/x"):
        store.put_bytes("bucket", name, b"before", metadata={"v": "before"})
    store.put_bytes("bucket", "large-deleted", LARGE)
    disk.sync_all(0)
    yield store
    store.close()


def contents(store):
    return {
        info.key: (store.get("bucket", info.key).path.read_bytes(), dict(info.metadata))
        for info in store.list("bucket")
    }


def change(store, tmp_path):
    store.put_bytes("bucket", "new", b"1", metadata={"v": "new"})
    store.put_bytes("bucket", "new/below", b"2")
    store.put_bytes("bucket", "replaced", b"after", metadata={"v": "after"})
    store.put_bytes("bucket", "replaced", LARGE)
    store.put_bytes("bucket", "replaced", b"last", metadata={"v": "last"})
    store.put_bytes("bucket", "large", LARGE, metadata={"v": "large"})
    store.delete("bucket", "deleted")
    store.delete("bucket", "large-deleted")
    store.put_bytes("bucket", "gone", b"3")
    store.delete("bucket", "gone")
    store.tag("bucket", "tagged", {"a": "b"})
    store.put_bytes("bucket", "tagged-new", b"4")
    store.tag("bucket", "tagged-new", {"c": "d"})
    store.tag("bucket", "large", {"e": "f"})
    source = tmp_path / "source"
    source.write_bytes(b"moved")
    store.put_file("bucket", "moved", source, move=True)


def test_a_power_cut_keeps_everything_that_was_acknowledged(store, tmp_path, disk):
    change(store, tmp_path)
    expected = contents(store)
    again = ObjectStore(disk.platter)
    assert contents(again) == expected
    for key, tags in (("tagged", {"a": "b"}), ("tagged-new", {"c": "d"}), ("large", {"e": "f"})):
        assert again.get("bucket", key).info.attributes.tags == tags
    for info in store.list("bucket"):
        assert again.get("bucket", info.key).info == info
    assert again.sweep() == 0
    again.close()


def test_a_power_cut_in_the_middle_of_a_checkpoint(store, tmp_path, disk):
    """All files are written, the journal not yet erased; the repetition changes nothing."""
    change(store, tmp_path)
    expected = contents(store)
    disk.sync_all(0)
    for _ in range(2):
        again = ObjectStore(disk.platter, Disk(waits=False))
        assert contents(again) == expected
        shutil.copytree(tmp_path / "s3/.journal", disk.platter / ".journal", dirs_exist_ok=True)


def test_torn_files_are_repeated(store, disk):
    """File systems may keep a name, a size and a time, and lose the bytes."""
    store.put_bytes("bucket", "torn", b"whole", metadata={"v": "1"})
    path = store.get("bucket", "torn").path
    status = path.stat()
    disk.sync_all(0)
    torn = disk.platter / "bucket/torn"
    torn.chmod(0o600)
    torn.write_bytes(b"\0" * 5)
    os.utime(torn, ns=(status.st_mtime_ns, status.st_mtime_ns))
    (attributes,) = disk.platter.glob(".attributes/bucket/torn%*")
    attributes.write_bytes(b"")
    again = ObjectStore(disk.platter)
    assert contents(again)["torn"] == (b"whole", {"v": "1"})
    again.close()


def test_a_reply_comes_after_the_sync_and_the_object_too(store, disk):
    seen = []
    outcome = None

    def look():
        seen.append((outcome is not None and outcome.done(), "k" in contents(store)))

    disk.on_sync = look
    with store.open_writer("bucket", "k") as writer:
        writer.write(b"1")
        go = threading.Event()

        def make():
            assert go.wait(10)
            return writer.change()

        outcome = store.commits.submit(make)
        go.set()
        assert outcome.result(10).size == 1
    assert seen == [(False, False)]
    assert "k" in contents(store)


def test_changes_that_wait_together_are_synced_once(store, disk):
    """Two changes of one key are in two groups: the second must see the first."""
    syncs = []
    gate = threading.Event()
    disk.on_sync = lambda: (syncs.append(1), gate.wait(10))
    first = store.commits.submit(store.open_writer("bucket", "first").change)
    while not syncs:
        pass
    writers = [store.open_writer("bucket", f"k{n}") for n in range(10)]
    outcomes = [store.commits.submit(writer.change) for writer in writers]
    again = [store.commits.submit(store.open_writer("bucket", "k0").change)]
    gate.set()
    for outcome in (first, *outcomes, *again):
        outcome.result(10)
    assert len(syncs) == 3
    assert outcomes[0].result().modified <= again[0].result().modified


@pytest.mark.parametrize("fails", ["sync", "rename"])
def test_a_change_that_fails_is_not_repeated(store, disk, monkeypatch, fails):
    """It was answered with an error; the old object stays, now and after a restart."""
    before = contents(store)
    error = OSError(errno.EIO, "Input/output error")

    def fail(*_):
        raise error

    with monkeypatch.context() as patched:
        if fails == "sync":
            patched.setattr(disk, "on_sync", fail)
        else:
            patched.setattr(store.files("bucket"), "replace", fail)
        with pytest.raises(OSError, match="Input/output"):
            store.put_bytes("bucket", "replaced", b"after")
    assert contents(store) == before
    assert not list((disk.root / ".new").iterdir())
    again = ObjectStore(disk.platter)
    assert contents(again) == before
    again.close()


def test_a_full_disk_is_an_error_and_leaves_nothing(store, disk, monkeypatch):
    before = contents(store)
    write = os.write

    def full(file, data):
        if ".new" in str(Path(f"/proc/self/fd/{file}").readlink()):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data)

    monkeypatch.setattr(os, "write", full)
    for data in (b"small", LARGE):
        with pytest.raises(OSError, match="No space left"):
            store.put_bytes("bucket", "replaced", data)
    assert contents(store) == before
    assert not list((disk.root / ".new").iterdir())
    monkeypatch.undo()
    store.put_bytes("bucket", "replaced", b"fits")


def test_a_deletion_needs_no_room(store, monkeypatch):
    """The journal can't grow: it uses the other segment."""
    store.put_bytes("bucket", "other", b"1")
    store._journal.rotate()
    store.put_bytes("bucket", "fills", b"1" * 60_000)
    monkeypatch.setattr(journal_module, "_GROWTH", 1 << 16)
    pwrite = os.pwrite

    def full(file, data, position):
        if position + len(data) > os.fstat(file).st_size:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(file, data, position)

    monkeypatch.setattr(os, "pwrite", full)
    for _ in range(40):
        store.put_bytes("bucket", "other", b"1" * 60_000)
    store.delete("bucket", "other")
    assert "other" not in contents(store)


def test_an_object_that_was_replaced_by_hand_stays(store, disk):
    store.put_bytes("bucket", "replaced", b"ours")
    disk.sync_all(0)
    path = disk.platter / "bucket/replaced"
    path.unlink()
    path.write_bytes(b"by hand")
    again = ObjectStore(disk.platter)
    assert contents(again)["replaced"][0] == b"by hand"
    again.close()


def test_a_bucket_that_was_deleted_does_not_come_back(tmp_path):
    disk = CutDisk(tmp_path / "s3", tmp_path / "platter")
    store = ObjectStore(tmp_path / "s3", disk)
    store.create_bucket("bucket")
    store.put_bytes("bucket", "k", b"1")
    store.get("bucket", "k").path.unlink()
    store.delete_bucket("bucket")
    shutil.copytree(tmp_path / "s3", tmp_path / "copy")
    again = ObjectStore(tmp_path / "copy")
    assert again.buckets() == []
    again.close()
    store.close()


def test_segments_take_turns_and_older_rests_do_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 4096)
    disk = CutDisk(tmp_path / "s3", tmp_path / "platter")
    store = ObjectStore(tmp_path / "s3", disk)
    store.create_bucket("bucket")
    for turn in range(100):
        store.put_bytes("bucket", f"k{turn % 7}", f"{turn}".encode() * 100)
        if turn % 10 == 0:
            again = ObjectStore(disk.platter)
            assert contents(again) == contents(store)
            again.close()
    store.close()
    assert Journal(tmp_path / "s3/.journal", Disk()).records() == []


def test_records_as_they_were_written():
    record = Record(Kind.PUT, "b", "k\udc80é", 1, 2, b"{}", b"\0" * 9, "f")
    assert Record.decode(memoryview(record.encode())) == record


def test_a_failed_checkpoint_is_tried_again(store, disk, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(disk, "sync_all", fail)
        store.put_bytes("bucket", "a", b"1")
        store._journal.rotate()
        store.put_bytes("bucket", "b", b"1")
        with pytest.raises(OSError, match="Input/output"):
            store._journal.rotate()
    store.put_bytes("bucket", "c", b"1")
    store._journal.rotate()
    store.put_bytes("bucket", "d", b"1")
    assert {"a", "b", "c", "d"} <= set(contents(ObjectStore(disk.platter)))


def test_a_store_of_an_older_version_opens(tmp_path):
    """It has no journal; its layout of objects is the same."""
    root = tmp_path / "s3"
    data, attributes = root / "bucket/train/a.csv", root / ".attributes/bucket/train"
    data.parent.mkdir(parents=True)
    attributes.mkdir(parents=True)
    data.write_bytes(b"1,2")
    name = f"a.csv%{data.stat().st_mtime_ns:x}"
    document = {"etag": "e", "content_type": "text/csv", "metadata": {"m": "n"}}
    (attributes / name).write_text(json.dumps(document))
    (root / ".unclosed").touch()
    store = ObjectStore(root)
    info = store.get("bucket", "train/a.csv").info
    assert (info.etag, info.content_type, info.metadata) == ("e", "text/csv", {"m": "n"})
    store.put_bytes("bucket", "train/a.csv", b"3")
    store.close()
    assert sorted(path.name for path in root.iterdir()) == [
        ".attributes", ".journal", ".new", ".uploads", "bucket",
    ]  # fmt: skip


def test_without_waits_nothing_is_synced(tmp_path, monkeypatch):
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _: pytest.fail("synced"))
    monkeypatch.setattr(
        "sagemaker_byoc.region.services.s3.store.object_store.write_atomically",
        lambda path, data: (path.parent.mkdir(parents=True, exist_ok=True), path.write_bytes(data)),
    )
    store = ObjectStore(tmp_path / "s3", Disk(waits=False))
    store.create_bucket("bucket")
    store.put_bytes("bucket", "small", b"1")
    store.put_bytes("bucket", "large", LARGE)
    store.tag("bucket", "small", {"a": "b"})
    store.delete("bucket", "large")
    assert contents(store) == {"small": (b"1", {})}
    store.close()
    assert not any(path.stat().st_size for path in (tmp_path / "s3/.journal").iterdir())


def test_after_its_end_a_store_refuses_changes(tmp_path):
    store = ObjectStore(tmp_path / "s3")
    store.create_bucket("bucket")
    store.close()
    store.close()
    with pytest.raises(RuntimeError, match="the object store is closed"):
        store.put_bytes("bucket", "k", b"1")
    with pytest.raises(S3Error, match="NoSuchBucket"):
        store.put_bytes("else", "k", b"1")


def test_a_file_from_before_1970(store, tmp_path):
    """Put there by hand; it can be replaced and deleted like any other."""
    for name in ("old", "older"):
        (tmp_path / "s3/bucket" / name).write_text("x")
        os.utime(tmp_path / "s3/bucket" / name, (-86400, -86400))
    store.delete("bucket", "old")
    store.put_bytes("bucket", "older", b"new")
    assert contents(store)["older"][0] == b"new"
    assert "old" not in contents(store)


def test_a_failed_group_does_not_come_back(store, tmp_path, disk):
    """Neither its first change nor those behind it, whatever is written at their place."""

    def put(key, data):
        writer = store.open_writer("bucket", key)
        writer.write(data)
        return writer.change

    def fail():
        disk.on_sync = lambda: None
        raise OSError(errno.EIO, "I/O error")

    gate = threading.Event()

    def hold():
        gate.wait(20)
        raise ValueError("so that the group gathers meanwhile")

    store.commits.submit(hold)
    both = [store.commits.submit(put(key, b"NEW")) for key in ("a", "replaced")]
    disk.on_sync = fail
    gate.set()
    for outcome in both:
        with pytest.raises(OSError, match="I/O error"):
            outcome.result(20)
    store.put_bytes("bucket", "a", b"NEW")
    shutil.copytree(tmp_path / "s3", tmp_path / "killed")
    again = ObjectStore(tmp_path / "killed")
    assert contents(again)["replaced"][0] == b"before"
    again.close()


def test_a_frame_of_zeros_is_not_a_record(store, tmp_path):
    """What a power cut leaves of a frame that was on its way."""
    store.put_bytes("bucket", "kept", b"1")
    shutil.copytree(tmp_path / "s3", tmp_path / "cut")
    journal = tmp_path / "cut/.journal/0"
    data = bytearray(journal.read_bytes())
    end = len(data.rstrip(b"\0"))  # or a few bytes after it: a record may end with zeros
    for start in range(end, end + 8):
        torn = data[:end] + bytes(start - end) + data[:13]  # magic, counts, generation; then zeros
        journal.write_bytes(torn + bytes(len(data) - len(torn)))
        again = ObjectStore(tmp_path / "cut")
        assert contents(again)["kept"][0] == b"1"
        again.close()
