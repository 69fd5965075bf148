"""Windows of tokens out of memory-mapped .npy shards, as batches of torch's DataLoader.

Which windows a step reads depends on its number, the files and the seed alone: a resumed run needs
no saved position, and may have another number of processes.
"""

import functools
import itertools

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler


class Windows(Dataset):
    """Windows of `length` + 1 tokens. Each token is predicted once per epoch, but a file's rest."""

    def __init__(self, files, length):
        self.length = length
        # The same mapping as arrays: slices of np.memmap itself are slow.
        self.shards = [np.asarray(np.load(file, mmap_mode="r")) for file in files]
        counts = [max(0, len(shard) - 1) // length for shard in self.shards]
        self.ends = np.cumsum(counts)
        self.starts = self.ends - counts
        if not sum(counts):
            raise ValueError(f"{len(counts)} token files hold no sequence of {length} + 1 tokens")

    def __len__(self):
        return int(self.ends[-1])

    def __getitem__(self, numbers):
        """Return the windows with these numbers as one batch."""
        rows = np.empty((len(numbers), self.length + 1), np.int64)
        shards = np.searchsorted(self.ends, numbers, side="right")
        offsets = (numbers - self.starts[shards]) * self.length
        for row, shard, offset in zip(rows, shards.tolist(), offsets.tolist(), strict=True):
            row[:] = self.shards[shard][offset : offset + self.length + 1]
        return torch.from_numpy(rows)


class Steps(Sampler):
    """This process's part of the window numbers of each step, from step `first` on, which is 0."""

    def __init__(self, count, batch_size, *, first=0, seed=None, rank=0, world_size=1):  # noqa: PLR0913
        if batch_size % world_size:
            raise ValueError(f"a batch of {batch_size} can't be shared by {world_size} processes")
        self.count, self.batch_size, self.first, self.seed = count, batch_size, first, seed
        self.rank, self.world_size = rank, world_size

    def __iter__(self):
        own = self.batch_size // self.world_size
        for step in itertools.count(self.first):
            start = step * self.batch_size + self.rank * own
            epochs, places = np.divmod(np.arange(start, start + own), self.count)
            yield np.concatenate(
                [self.order(int(epoch))[places[epochs == epoch]] for epoch in np.unique(epochs)]
            )

    @functools.lru_cache(2)  # noqa: B019 - a batch may reach into the next epoch
    def order(self, epoch):
        if self.seed is None:
            return np.arange(self.count)
        return np.random.default_rng((self.seed, epoch)).permutation(self.count)


def batches(files, length, batch_size, *, pin_memory=False, workers=0, **options):
    """Return an endless iterable of (batch_size / world_size, length + 1) tokens.

    Made in this process: a batch takes a few tenths of a millisecond.
    """
    windows = Windows(files, length)
    steps = Steps(len(windows), batch_size, **options)
    return DataLoader(
        windows, batch_size=None, sampler=steps, pin_memory=pin_memory, num_workers=workers
    )
