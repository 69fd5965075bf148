"""The region's end of a pipe: epochs, early ends, formats."""

from __future__ import annotations

import gzip
import json
import random
import threading
from contextlib import ExitStack

import pytest
from tests.support.waiting import wait_until
from tests.unit.region.services.sagemaker.training_jobs.conftest import BUCKET, channel

from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.sagemaker.jobs.inputs import find_items
from sagemaker_byoc.region.services.sagemaker.jobs.pipes import (
    CHUNK,
    LONGEST,
    Feed,
    PipeFeeder,
    frame,
)
from sagemaker_byoc.region.services.sagemaker.training_jobs.plan import plan_of
from sagemaker_byoc.training.library.data.records import record_blocks


@pytest.fixture
def store(tmp_path):
    store = ObjectStore(tmp_path / "s3")
    store.create_bucket(BUCKET)
    return store


@pytest.fixture
def feed(tmp_path, store):
    """Starts a feeder for a channel of a request; returns its tree and the errors it reports."""
    with ExitStack() as stack:

        def start(entry, host="algo-1", hosts=1):
            request = {
                "TrainingJobName": "job",
                "AlgorithmSpecification": {"TrainingImage": "i", "TrainingInputMode": "Pipe"},
                "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
                "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": hosts},
                "InputDataConfig": [entry],
            }
            (plan,) = plan_of(request).channels
            tree = Tree(tmp_path / host)
            tree.data.mkdir(parents=True)
            errors = []
            items = find_items(store, plan)
            feeder = PipeFeeder(Feed(store, plan, items, host, tree), errors.append)
            feeder.start()
            stack.callback(feeder.close)
            return tree, errors

        yield start


def read(tree, epoch, name="train"):
    path = tree.pipe(name, epoch)
    wait_until(path.exists, f"{path.name}")
    return path.read_bytes()


def test_every_epoch_is_all_of_the_objects(feed, store):
    """One after the other in the order of their keys; a FIFO that was read is gone."""
    for name in "ba":
        store.put_bytes(BUCKET, f"d/{name}", name.encode() * 200_000)
    tree, _ = feed(channel("train", "d/"))
    whole = b"a" * 200_000 + b"b" * 200_000
    assert read(tree, 0) == whole
    assert read(tree, 1) == whole
    wait_until(tree.pipe("train", 2).exists, "the next epoch")
    assert not tree.pipe("train", 0).exists()


def test_a_reader_may_close_early(feed, store):
    """The next epoch begins from the start."""
    store.put_bytes(BUCKET, "d/a", b"x" * 5_000_000)
    tree, _ = feed(channel("train", "d/"))
    with open(tree.pipe("train", 0), "rb") as early:
        assert early.read(10) == b"x" * 10
    assert len(read(tree, 1)) == 5_000_000


def test_shards_and_shuffle_change_with_the_epoch(feed, store):
    """A host may see other objects in the next one; the seed says which."""
    for number in range(8):
        store.put_bytes(BUCKET, f"d/{number}", str(number).encode())
    entry = channel(
        "train",
        "d/",
        source={"S3DataDistributionType": "ShardedByS3Key"},
        ShuffleConfig={"Seed": 3},
    )
    trees = [feed(entry, host, hosts=2)[0] for host in ("algo-1", "algo-2")]
    epochs = []
    for epoch in range(2):
        epochs.append([read(tree, epoch) for tree in trees])
        assert sorted(b"".join(epochs[-1])) == sorted(b"01234567")
        assert [len(part) for part in epochs[-1]] == [4, 4]
    assert epochs[0] != epochs[1]


def test_gzip_is_unpacked(feed, store):
    """All members, also where what is unpacked is far larger than what was read."""
    data = b"0" * (3 * CHUNK) + random.Random(0).randbytes(CHUNK)
    store.put_bytes(BUCKET, "d/a.gz", gzip.compress(data) + gzip.compress(b"end"))
    tree, _ = feed(channel("train", "d/", CompressionType="Gzip"))
    assert read(tree, 0) == data + b"end"


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"plain", "is not gzip"), (gzip.compress(b"x" * 999)[:-9], "ends within")],
    ids=["plain", "cut"],  # the bytes hold the time, which differs between test processes
)
def test_what_is_not_gzip_ends_the_job(feed, store, data, words):
    """With the object's name; the reader gets an end and no garbage."""
    store.put_bytes(BUCKET, "d/a.gz", data)
    tree, errors = feed(channel("train", "d/", CompressionType="Gzip"))
    read(tree, 0)
    wait_until(lambda: errors, "the error")
    assert words in str(errors[0])
    assert "d/a.gz" in str(errors[0])


@pytest.mark.parametrize("packed", [False, True])
def test_record_io_has_a_record_an_object(feed, store, packed):
    """As the toolkit's own reader, and AWS's, take them apart."""
    parts = [b"", b"a", b"four", b"x" * 300_001]
    for number, part in enumerate(parts):
        store.put_bytes(BUCKET, f"d/{number}", gzip.compress(part) if packed else part)
    kind = {"CompressionType": "Gzip"} if packed else {}
    tree, _ = feed(channel("train", "d/", RecordWrapperType="RecordIO", **kind))
    with open(tree.pipe("train", 0), "rb", buffering=0) as pipe:
        assert [r for block in record_blocks(pipe, "pipe") for r in block] == parts


def test_augmented_manifest(feed, store):
    """Attributes in the order of the request; a reference brings the object's bytes."""
    store.put_bytes(BUCKET, "img/1", b"pixels")
    lines = [{"source-ref": f"s3://{BUCKET}/img/1", "class": 4, "note": "n"}]
    store.put_bytes(BUCKET, "m.jsonl", "\n".join(map(json.dumps, lines)).encode() + b"\n\n")
    entry = channel(
        "train",
        "m.jsonl",
        "AugmentedManifestFile",
        source={"AttributeNames": ["class", "source-ref"]},
        RecordWrapperType="RecordIO",
    )
    tree, _ = feed(entry)
    with open(tree.pipe("train", 0), "rb", buffering=0) as pipe:
        assert [r for b in record_blocks(pipe, "pipe") for r in b] == [b"4", b"pixels"]


def test_a_pipe_nobody_opens_keeps_nothing(feed, store):
    """Its thread ends with the job."""
    store.put_bytes(BUCKET, "d/a", b"x")
    before = threading.active_count()
    feed(channel("train", "d/"))
    assert threading.active_count() == before + 1


def test_a_payload_too_long_for_one_record_is_cut(monkeypatch):
    """First, middle, last; without a byte more or less than was said."""
    monkeypatch.setattr("sagemaker_byoc.region.services.sagemaker.jobs.pipes.LONGEST", 4)
    assert LONGEST == 2**29 - 1
    data = b"".join(frame(10, [b"0123", b"456789"]))
    flags = [int.from_bytes(data[at + 4 : at + 8], "little") >> 29 for at in (0, 12, 24)]
    assert flags == [1, 2, 3]
    with pytest.raises(ValueError, match="missing"):
        list(frame(3, [b"ab"]))
    with pytest.raises(ValueError, match="more than"):
        list(frame(1, [b"ab"]))


def test_pipe_in_a_job(region):
    """A container reads two epochs of a FIFO; a File channel lies beside it."""
    region.put("d/a", b"one\n")
    region.put("f/b", b"two\n")
    ended = region.run(
        "cd /opt/ml/input/data; cat p_0; until [ -e p_1 ]; do sleep 0.01; done; cat p_1 f/b",
        InputDataConfig=[channel("p", "d/", InputMode="Pipe"), channel("f", "f/")],
    )
    assert ended["TrainingJobStatus"] == "Completed"
    assert region.log()[:3] == ["one", "one", "two"]


def test_broken_pipe_data_fails_the_job(region):
    """The reason names the object."""
    region.put("d/a.gz", b"plain")
    ended = region.run(
        "trap 'exit 0' TERM; cat /opt/ml/input/data/p_0; while :; do sleep 0.01; done",
        InputDataConfig=[channel("p", "d/", InputMode="Pipe", CompressionType="Gzip")],
    )
    assert ended["TrainingJobStatus"] == "Failed"
    assert "d/a.gz is not gzip" in ended["FailureReason"]
