"""A shuffled order of n numbers, any part of which can be computed without the rest.

A Feistel network permutes the numbers of 2k bits whatever its round function is; a result that is
not below n is put through again until it is (cycle walking), which takes less than four rounds of
that on average, since 4n > 2^2k.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

ROUNDS = 6
_64_BITS = (1 << 64) - 1


def permuted(positions: Positions, size: int, seed: int, epoch: int) -> Positions:
    """What stands at `positions`, each below `size`, in the order of this seed and epoch."""
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    keys = _keys(seed, epoch)
    values = positions.astype(np.uint64)
    outside = np.arange(len(values))
    while len(outside):
        values[outside] = _feistel(values[outside], half, keys)
        outside = outside[values[outside] >= size]
    return values.astype(np.int64)


def _feistel(values: Words, half: int, keys: list[int]) -> Words:
    shift, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = values >> shift, values & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right ^ np.uint64(key)) & mask)
    return left << shift | right


def _mixed(words: Words) -> Words:
    """The finaliser of splitmix64: every input bit reaches every output bit."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _keys(seed: int, epoch: int) -> list[int]:
    """One key a round; seed and epoch as two words, so that (1, 2) and (2, 1) differ."""
    words = np.array([seed & _64_BITS, epoch & _64_BITS], np.uint64)
    state = int(_mixed(_mixed(words[:1]) + words[1:])[0])
    steps = [(state + (index + 1) * 0x9E3779B97F4A7C15) & _64_BITS for index in range(ROUNDS)]
    return [int(word) for word in _mixed(np.array(steps, np.uint64))]
