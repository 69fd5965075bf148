"""Token shards for language models: any sample by its number alone, so that resuming is exact.

Sample n of a run is a pure function of the files, the sequence length and the seed. A global batch
is `batch_size` samples with consecutive numbers, whatever the number of processes that share it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sagemaker_byoc.training.library.data.files import DataError
from sagemaker_byoc.training.library.data.permutation import permuted
from sagemaker_byoc.training.library.process import Place

Tokens = npt.NDArray[np.integer[Any]]
Positions = npt.NDArray[np.int64]

BLOCK = 4096
"""Samples whose order is computed at once: a permutation of all is never held in memory."""


class TokenError(DataError):
    """Token files that can't be used, or a saved position that belongs to other ones."""


@dataclass(frozen=True, slots=True)
class Raw:
    """How a `.bin` file holds its tokens: little-endian `dtype`, after `skip_bytes` of header."""

    dtype: npt.DTypeLike
    skip_bytes: int = 0


MAGIC = {20240520: np.uint16, 20240801: np.uint32}
"""The first number of llm.c's files, with the type of their tokens."""
HEADER = 1024
"""Bytes of such a header: 256 numbers, of which the third is the count of tokens."""
FOREIGN = {
    b"\x93NUM": "a .npy file",
    b"PK\x03\x04": "a zip archive, as torch.save writes",
    b"\x1f\x8b\x08\x00": "gzipped",
    b"\x1f\x8b\x08\x08": "gzipped",
    b"\x28\xb5\x2f\xfd": "packed with zstd",
    b"PAR1": "a Parquet file",
    b"ARRO": "an Arrow file",
}

UINT16 = Raw(np.uint16)
UINT32 = Raw(np.uint32)


@dataclass(frozen=True, slots=True)
class Location:
    """Where a sample lies: `offset` in tokens into file number `shard`."""

    epoch: int
    shard: int
    offset: int


class TokenDataset:
    """Windows of `sequence_length` + 1 tokens over memory-mapped files, in shuffled order.

    Windows start every `sequence_length` tokens, so each token is predicted once an epoch; what is
    left over at a file's end is dropped. Files are `.npy` of one dimension, llm.c's `.bin` with its
    header, or `raw`.
    """

    def __init__(
        self,
        files: Sequence[Path],
        sequence_length: int,
        seed: int = 0,
        *,
        shuffle: bool = True,
        raw: Raw = UINT16,
    ) -> None:
        self.sequence_length = sequence_length
        self.seed = seed
        self._shuffle = shuffle
        self._shards = [_open(Path(file), raw) for file in files]
        sizes = np.array([len(shard) for shard in self._shards], np.int64)
        windows = np.maximum(0, (sizes - 1) // sequence_length)
        self._ends = windows.cumsum()
        self._starts = self._ends - windows
        self.samples_per_epoch = int(windows.sum())
        if self.samples_per_epoch == 0:
            raise TokenError(
                where=f"{len(files)} token files",
                what=f"hold no sequence of {sequence_length} + 1 tokens",
                hint="Check the channel and the sequence length",
            )
        used = self.samples_per_epoch * sequence_length
        self.dropped_tokens = int(sizes.sum()) - used
        self._order: tuple[int, int, Positions] = (-1, -1, np.empty(0, np.int64))

    @property
    def identity(self) -> dict[str, int]:
        """What the meaning of a sample number depends on."""
        return {
            "sequence_length": self.sequence_length,
            "seed": self.seed,
            "shuffle": int(self._shuffle),
            "samples_per_epoch": self.samples_per_epoch,
            "shards": len(self._shards),
        }

    def locate(self, index: int) -> Location:
        """Where sample `index` of the run lies."""
        [shard], [offset] = self._places(index, 1)
        return Location(index // self.samples_per_epoch, shard, offset)

    def sample(self, index: int) -> Tokens:
        """The `sequence_length` + 1 tokens of sample `index`, a view of the file."""
        at = self.locate(index)
        return self._shards[at.shard][at.offset : at.offset + self.sequence_length + 1]

    def samples(self, first: int, count: int) -> torch.Tensor:
        """Samples `first` to `first + count`: int64, (count, sequence_length + 1)."""
        width = self.sequence_length + 1
        rows = np.empty((count, width), np.int64)
        for row, shard, offset in zip(rows, *self._places(first, count), strict=True):
            row[:] = self._shards[shard][offset : offset + width]
        return torch.from_numpy(rows)

    def batches(
        self, batch_size: int, place: Place | None = None, *, epochs: int | None = None
    ) -> TokenBatches:
        """Global batches of `batch_size` samples, of which `place` gets its part; endless unless
        `epochs` are given, and then without the last batch if it is not full."""
        return TokenBatches(self, batch_size, place or Place(), epochs)

    def _places(self, first: int, count: int) -> tuple[list[int], list[int]]:
        """Shard and offset of `count` samples; numpy at once, since Python would take longer
        for each than the copy of its tokens."""
        parts = [np.empty(0, np.int64)]
        while count:
            epoch, position = divmod(first, self.samples_per_epoch)
            block, start = divmod(position, BLOCK)
            parts.append(self._block(epoch, block)[start : start + count])
            first += len(parts[-1])
            count -= len(parts[-1])
        windows = np.concatenate(parts)
        shards = np.searchsorted(self._ends, windows, side="right")
        offsets = (windows - self._starts[shards]) * self.sequence_length
        return shards.tolist(), offsets.tolist()

    def _block(self, epoch: int, block: int) -> Positions:
        """The windows at positions `block` * BLOCK and on; the last block asked for is kept."""
        # One assignment and one read of a tuple: two threads never see half of one.
        kept_epoch, kept_block, order = self._order
        if (epoch, block) != (kept_epoch, kept_block):
            first = block * BLOCK
            last = min(first + BLOCK, self.samples_per_epoch)
            order = np.arange(first, last, dtype=np.int64)
            if self._shuffle:
                order = permuted(order, self.samples_per_epoch, self.seed, epoch)
            self._order = (epoch, block, order)
        return order


class TokenBatches(Iterator[torch.Tensor]):
    """One process's part of each global batch: int64, (batch_size / world_size, length + 1).

    Inputs are `batch[:, :-1]`, targets `batch[:, 1:]`.
    """

    def __init__(
        self, dataset: TokenDataset, batch_size: int, place: Place, epochs: int | None
    ) -> None:
        if batch_size % place.world_size:
            raise TokenError(
                where=f"batch size {batch_size}",
                what=f"is not a multiple of the {place.world_size} processes that share it",
                hint="Choose a global batch size that they divide",
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.taken = 0
        """Samples of all processes so far."""
        self._place = place
        self._end = None if epochs is None else epochs * dataset.samples_per_epoch

    @property
    def epoch(self) -> int:
        """The epoch of the next sample, from 0."""
        return self.taken // self.dataset.samples_per_epoch

    def __next__(self) -> torch.Tensor:
        if self._end is not None and self.taken + self.batch_size > self._end:
            raise StopIteration
        own = self.batch_size // self._place.world_size
        batch = self.dataset.samples(self.taken + self._place.rank * own, own)
        self.taken += self.batch_size
        return batch

    def state_dict(self) -> dict[str, int]:
        """The same on every process; good for any number of processes and any batch size."""
        return {"samples": self.taken, **self.dataset.identity}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on after the samples of `state`; raise TokenError if it is of other data."""
        for name, value in self.dataset.identity.items():
            if state[name] != value:
                raise TokenError(
                    where=f"saved position, {name}",
                    what=f"is {state[name]}, and that of this data set {value}",
                    hint="Resume with the files, sequence length and seed of the first run",
                )
        self.taken = state["samples"]


def _open(path: Path, raw: Raw) -> Tokens:
    try:
        if path.suffix == ".npy":
            tokens: Tokens = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            raw = _of_header(path, raw)
            tokens = _open_raw(path, np.dtype(raw.dtype).newbyteorder("<"), raw.skip_bytes)
    except (OSError, ValueError) as error:
        raise TokenError(
            where=str(path),
            what=f"can't be mapped as tokens ({error})",
            hint=f"Write .npy, or .bin of {np.dtype(raw.dtype).name} alone",
        ) from error
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise TokenError(
            where=str(path),
            what=f"holds {tokens.dtype} of shape {tokens.shape}",
            hint="Write one dimension of integers",
        )
    return np.asarray(tokens)  # the same mapping; slices of a np.memmap itself cost Python code


def _of_header(path: Path, raw: Raw) -> Raw:
    """How the file says that it is to be read; ValueError if it is of another kind."""
    with open(path, "rb") as file:
        head = file.read(12)
    if len(head) < 12 or raw.skip_bytes not in {0, HEADER}:
        return raw
    if raw.skip_bytes == 0 and head[:4] in FOREIGN:
        raise ValueError(f"it is {FOREIGN[head[:4]]}")
    magic, _, count = np.frombuffer(head, "<i4").tolist()
    size = path.stat().st_size - HEADER
    kinds = [
        kind for kind in (np.uint16, np.uint32) if count > 0 and count * kind().itemsize == size
    ]
    if magic in MAGIC:
        if MAGIC[magic] not in kinds:
            raise ValueError(f"its header says {count} tokens, and {size} bytes follow it")
        return Raw(MAGIC[magic], HEADER)
    if kinds and raw.skip_bytes == 0:
        name = kinds[0].__name__
        raise ValueError(
            f"it begins with a header of an unknown kind, {magic}; raw=Raw(np.{name}, {HEADER}) "
            "leaves it out"
        )
    return raw


def _open_raw(path: Path, dtype: np.dtype[Any], skip_bytes: int) -> Tokens:
    size = path.stat().st_size - skip_bytes
    if size < 0 or size % dtype.itemsize:
        raise ValueError(f"{size} bytes of tokens are no multiple of {dtype.itemsize}")
    if size == 0:
        return np.empty(0, dtype)  # an empty file can't be mapped
    return np.memmap(path, dtype, mode="r", offset=skip_bytes)
