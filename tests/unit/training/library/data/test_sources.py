"""Pipe mode: real FIFOs, epoch after epoch, with writers that come late, stop or say nothing."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import threading

import pytest

from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import (
    Channel,
    Distribution,
    InputMode,
    RecordWrapper,
    write_channels,
)
from sagemaker_byoc.training.library.data.channel import channel
from sagemaker_byoc.training.library.data.records import Framing, RecordError, encode_record
from sagemaker_byoc.training.library.data.sources import DataError, PipeError
from sagemaker_byoc.training.library.process import Place, job

pytestmark = pytest.mark.slow  # real processes

# Into the kernel's buffer and the reader's.
MORE_THAN_FITS = b"1\n" + bytes(1 << 23)


@pytest.fixture
def tree(tmp_path):
    tree = Tree(tmp_path)
    tree.data.mkdir(parents=True)
    return tree


@pytest.fixture
def reader(tree):
    """The Pipe channel `train`, seen by a process with some of torchrun's variables."""

    def made(environ=None, owner=None, patience=30.0, **fields):
        write_channels(tree, {"train": Channel("train", InputMode.PIPE, **fields)})
        process = job({"SAGEMAKER_BASE_DIR": str(tree.root), **(environ or {})})
        return channel("train", process, owner=owner, patience=patience)

    return made


class Writer:
    """Plays SageMaker: one thread that feeds one FIFO after the other."""

    def __init__(self, tree, epochs, ready=None):
        self.tree, self.epochs, self.ready = tree, epochs, ready
        self.was_refused = []
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        if self.ready is not None:
            assert self.ready.wait(30)
        for epoch, data in enumerate(self.epochs):
            path = self.tree.pipe("train", epoch)
            os.mkfifo(path)
            try:
                with open(path, "wb") as fifo:  # buffered: it writes on after a short write
                    fifo.write(data)
                self.was_refused.append(False)
            except BrokenPipeError:
                self.was_refused.append(True)
            path.unlink()


@pytest.fixture
def writer(tree):
    writers = []

    def made(*epochs, ready=None):
        writers.append(Writer(tree, epochs, ready))
        return writers[-1]

    yield made
    for one in writers:
        one.thread.join(30)
        assert not one.thread.is_alive()


def test_epochs(reader, writer):
    """Each call reads the next one, the FIFO of which appears only after the last was read."""
    writer(b"1\n2\n", b"", b"3\n")
    train = reader()
    assert [list(train.records()) for _ in range(3)] == [[b"1\n", b"2\n"], [], [b"3\n"]]


def test_early_close(reader, writer):
    """A reader may leave an epoch; the writer is told, and the next one starts at its beginning."""
    feeding = writer(MORE_THAN_FITS, b"2\n")
    train = reader()
    records = train.records()
    assert next(records) == b"1\n"
    records.close()
    assert list(train.records()) == [b"2\n"]
    assert feeding.was_refused[0]


def test_next_epoch_closes_the_last(reader, writer):
    """Who forgets to close one is not left with two."""
    feeding = writer(MORE_THAN_FITS, b"2\n")
    train = reader()
    unfinished = train.records()
    next(unfinished)
    assert list(train.records()) == [b"2\n"]
    assert feeding.was_refused[0]
    unfinished.close()


def test_late_fifo(reader, writer):
    """The reader waits for it."""
    is_waiting = threading.Event()

    def stop():
        is_waiting.set()
        return False

    writer(b"1\n", ready=is_waiting)
    assert list(reader().records(stop=stop)) == [b"1\n"]


def test_fifo_that_never_comes(reader, tree):
    """An end, which says what was waited for and what is there."""
    train = reader(patience=0.05)
    tree.pipe("test", 0).touch()
    with pytest.raises(PipeError, match=r"train_0: did not appear within 0\.05 s.*test_0"):
        list(train.records())


def test_writer_that_never_comes(reader, tree):
    """A FIFO alone is no data."""
    os.mkfifo(tree.pipe("train", 0))
    with pytest.raises(PipeError, match="train_0: gave no byte"):
        list(reader(patience=0.05).records())


def test_writer_that_falls_silent(reader, tree):
    """What came is read, and silence has an end in the middle of a record too."""
    os.mkfifo(tree.pipe("train", 0))
    feeding = os.open(tree.pipe("train", 0), os.O_RDWR)
    os.write(feeding, encode_record(b"1") + b"\x0a\x23")
    records = reader(patience=0.05).records(Framing.RECORD_IO)
    assert next(records) == b"1"
    with pytest.raises(PipeError, match="gave no byte"):
        next(records)
    os.close(feeding)


@pytest.mark.parametrize("has_fifo", [True, False])
def test_signal_while_waiting(reader, tree, has_fifo):
    """A handler that sets a flag ends the records, wherever they wait."""
    if has_fifo:
        os.mkfifo(tree.pipe("train", 0))
    flags = []
    before = signal.signal(signal.SIGUSR1, lambda *_: flags.append(True))

    def stop():
        if not flags:
            signal.raise_signal(signal.SIGUSR1)
            return False
        return True

    try:
        assert list(reader().records(stop=stop)) == []
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_sigterm_ends_a_waiting_program(tree, reader):
    """A handler that raises is heard at once, in a process of its own."""
    reader()
    os.mkfifo(tree.pipe("train", 0))
    program = (
        "import signal, sys\n"
        "from sagemaker_byoc.training.library.data.channel import channel\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n"
        "print('ready', flush=True)\n"
        "list(channel('train').records())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "SAGEMAKER_BASE_DIR": str(tree.root)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    assert process.wait(30) == 3
    process.stdout.close()


def test_second_reader(reader, writer):
    """Two would each get torn pieces of the stream."""
    writer(MORE_THAN_FITS)
    first = reader().records()
    next(first)
    with pytest.raises(PipeError, match="is being read by another"):
        next(reader().records())
    first.close()


def test_not_a_fifo(reader, tree):
    """A folder of that name belongs to another channel."""
    tree.pipe("train", 0).mkdir()
    with pytest.raises(PipeError, match="is not a FIFO"):
        list(reader().records())


def test_recordio(reader, writer):
    """As SageMaker wraps objects; WHOLE means the same there."""
    payloads = [b"", b"1", bytes(300_000), b"2\n"]
    data = b"".join(map(encode_record, payloads))
    writer(data, data, data[:-1])
    train = reader(record_wrapper=RecordWrapper.RECORD_IO)
    assert list(train.records()) == payloads
    assert list(train.records(Framing.WHOLE)) == payloads
    with pytest.raises(RecordError, match=rf"train_2, byte {len(data) - 1}: ends inside"):
        list(train.records())


def test_gzip_in_small_writes(reader, tree):
    """Known by its first bytes, even if they come one at a time."""
    os.mkfifo(tree.pipe("train", 0))

    def feed():
        with open(tree.pipe("train", 0), "wb", buffering=0) as fifo:
            fifo.writelines(bytes([byte]) for byte in gzip.compress(b"1\n2"))

    thread = threading.Thread(target=feed)
    thread.start()
    assert list(reader().records()) == [b"1\n", b"2"]
    thread.join(30)


def test_no_files(reader):
    """A Pipe has none."""
    with pytest.raises(DataError, match="is in Pipe mode and has no files"):
        reader().files()


def test_whole_without_wrapping(reader):
    """Objects run into one another, and nothing says where one ends."""
    with pytest.raises(DataError, match="without RecordWrapperType"):
        reader().records(Framing.WHOLE)


RANK_1 = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}


def test_owner_must_be_said(reader):
    """With several processes on a host the error says what to do, before a byte is taken."""
    with pytest.raises(DataError, match=r"2 processes of this host.*owner=0.*FastFile"):
        reader(RANK_1).records()


def test_only_the_owner_reads(reader, writer):
    """The others are told whose it is."""
    with pytest.raises(DataError, match="belongs to local rank 0, and this is 1"):
        reader(RANK_1, owner=0).records()
    writer(b"1\n")
    assert list(reader(RANK_1, owner=1).records()) == [b"1\n"]


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        (Distribution.REPLICATED, [b"2\n", b"4\n"]),
        (Distribution.SHARDED, [b"1\n", b"2\n", b"3\n", b"4\n"]),
    ],
)
def test_share_of_a_host(reader, writer, distribution, expected):
    """The owner reads for its host: each other record, or all if the host has its own part."""
    writer(b"1\n2\n3\n4\n")
    train = reader(distribution=distribution).shard(Place(1, 2, 0, 1))
    assert list(train.records()) == expected
