"""How much of the speed of plain reading is left when records are cut out of the stream.

Run: .venv/bin/python benchmarks/reading.py   (writes reading.json beside itself)
"""

from __future__ import annotations

import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import Channel, InputMode, write_channels
from sagemaker_byoc.training.library.data.channel import channel
from sagemaker_byoc.training.library.data.records import Framing, encode_record
from sagemaker_byoc.training.library.process import job

SIZE = 256 << 20
ROUNDS = 7
CHUNK = 1 << 20

Where = Callable[[Tree], Path]

CASES = {
    "RecordIO, 1 MiB records": (Framing.RECORD_IO, 1 << 20),
    "RecordIO, 128 KiB records": (Framing.RECORD_IO, 128 << 10),
    "RecordIO, 16 KiB records": (Framing.RECORD_IO, 16 << 10),
    "RecordIO, 1 KiB records": (Framing.RECORD_IO, 1 << 10),
    "lines, 1 KiB": (Framing.LINES, 1 << 10),
    "lines, 100 bytes": (Framing.LINES, 100),
}


def main() -> None:
    # /dev/shm: what is measured is the reader, not a disk that no SageMaker instance has.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        tree = Tree(Path(folder))
        results = [
            row
            for name, (framing, length) in CASES.items()
            for row in reading_rows(tree, name, framing, length)
        ]
        results += token_rows(tree)
    for row in results:
        print(json.dumps(row))
    Path(__file__).with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")


def reading_rows(
    tree: Tree, name: str, framing: Framing, length: int
) -> Iterator[dict[str, object]]:
    path = FILE(tree)
    path.parent.mkdir(parents=True, exist_ok=True)
    record = os.urandom(length - 1).replace(b"\n", b"x")
    unit = record + b"\n" if framing is Framing.LINES else encode_record(record)
    path.write_bytes(unit * (SIZE // len(unit)))
    for mode, where in ((InputMode.FAST_FILE, FILE), (InputMode.PIPE, FIFO)):
        write_channels(tree, {"train": Channel("train", mode)})
        rounds = [
            [rate(read, tree, where, framing) for read in (raw, plain, ours)] for _ in range(ROUNDS)
        ]
        yield {
            "case": f"{mode}: {name}",
            **{
                f"{kind}_MB_s": round(statistics.median(one[column] for one in rounds))
                for column, kind in enumerate(("raw", "plain_loop", "records"))
            },
            "of_raw": round(statistics.median(one[2] / one[0] for one in rounds), 2),
            "of_plain_loop": round(statistics.median(one[2] / one[1] for one in rounds), 2),
            "best_of_raw": round(max(one[2] for one in rounds) / max(one[0] for one in rounds), 2),
            "of_raw_each_round": [round(one[2] / one[0], 2) for one in rounds],
        }


def rate(
    read: Callable[[Tree, Where, Framing], int], tree: Tree, where: Where, framing: Framing
) -> float:
    """MB/s of one pass."""
    start = time.perf_counter()
    with feeding(tree) if where is FIFO else nullcontext():
        size = read(tree, where, framing)
    seconds = time.perf_counter() - start
    assert size > 0.9 * SIZE
    return size / seconds / 1e6


def raw(tree: Tree, where: Where, _: Framing) -> int:
    """A plain open() and plain unbuffered reads."""
    with open(where(tree), "rb", buffering=0) as file:
        return sum(len(chunk) for chunk in iter(lambda: file.read(CHUNK), b""))


def plain(tree: Tree, where: Where, framing: Framing) -> int:
    """The loop that a script would have without us: same records, no checks."""
    with open(where(tree), "rb", CHUNK) as file:
        return sum(map(len, file if framing is Framing.LINES else plain_recordio(file)))


def plain_recordio(file: BinaryIO) -> Iterator[bytes]:
    while header := file.read(8):
        (length,) = struct.unpack_from("<I", header, 4)
        yield file.read(length)
        file.read(-length % 4)


def ours(tree: Tree, _: Where, framing: Framing) -> int:
    train = channel("train", job({"SAGEMAKER_BASE_DIR": str(tree.root)}))
    return sum(map(len, train.records(framing)))


def FILE(tree: Tree) -> Path:  # noqa: N802  a place, used as a name
    return tree.channel("train") / "data"


def FIFO(tree: Tree) -> Path:  # noqa: N802  a place, used as a name
    return tree.pipe("train", 0)


class feeding:  # noqa: N801  reads as what it does
    """A process that writes the data into epoch 0's FIFO."""

    def __init__(self, tree: Tree) -> None:
        self.fifo, self.source = FIFO(tree), FILE(tree)

    def __enter__(self) -> None:
        os.mkfifo(self.fifo)
        command = f'exec cat "{self.source}" > "{self.fifo}"'
        self.writer = subprocess.Popen(["/bin/sh", "-c", command])

    def __exit__(self, *_: object) -> None:
        self.writer.wait()
        self.fifo.unlink()


def token_rows(tree: Tree) -> Iterator[dict[str, object]]:
    """Time of one batch of the GPT example, beside one plain copy of as many bytes."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples/gpt"))
    from data import batches  # noqa: PLC0415 - the example's own module

    path = tree.root / "tokens.npy"
    np.save(path, np.random.default_rng(0).integers(0, 50_000, 64 << 20, dtype=np.uint16))
    for batch, length in ((8, 1024), (32, 1024), (32, 4096)):
        iterator = iter(batches([path], length, batch, seed=0))
        next(iterator)
        ours = timed(lambda iterator=iterator: next(iterator))
        source = np.zeros((batch, length + 1), np.uint16)
        yield {
            "case": f"tokens: batch {batch} x {length}",
            "us_per_batch": round(ours),
            "us_per_plain_copy": round(timed(lambda source=source: source.astype(np.int64))),
        }


def timed(function: Callable[[], object], count: int = 400) -> float:
    """Microseconds a call, the mean of each of some runs, their median."""
    runs = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(count):
            function()
        runs.append((time.perf_counter() - start) / count * 1e6)
    return statistics.median(runs)


if __name__ == "__main__":
    main()
