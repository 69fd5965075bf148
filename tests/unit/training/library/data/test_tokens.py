"""Tokens: a sample's number says where it lies, at any world size and after any restart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_byoc.training.library.data import tokens
from sagemaker_byoc.training.library.data.permutation import permuted
from sagemaker_byoc.training.library.data.tokens import UINT32, Raw, TokenDataset, TokenError
from sagemaker_byoc.training.library.process import Place

LENGTH = 4


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three shards, of both formats; every token is its own place, so that samples are unique."""
    folder = tmp_path_factory.mktemp("tokens")
    sizes = [103, 4, 57]  # the second is too short for one window
    numbers = np.arange(sum(sizes), dtype=np.uint16)
    first, second, third = np.split(numbers, np.cumsum(sizes)[:-1])
    first.tofile(folder / "a.bin")
    np.save(folder / "b.npy", second)
    np.save(folder / "c.npy", third)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def dataset(files):
    return TokenDataset(files, LENGTH, seed=3)


@given(st.integers(1, 700), st.integers(), st.integers(0, 9))
def test_permutation(size, seed, epoch):
    """Every number below the size once, whatever the size."""
    order = permuted(np.arange(size), size, seed, epoch)
    assert sorted(order) == list(range(size))


def test_permutation_is_a_shuffle():
    """Neighbours go apart, and epochs and seeds differ."""
    size = 100_000
    orders = [permuted(np.arange(size), size, *key) for key in [(0, 0), (0, 1), (1, 0), (-1, 0)]]
    for order in orders:
        assert abs(np.corrcoef(order, np.arange(size))[0, 1]) < 0.02
        assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.02
        assert (np.diff(order) == 1).sum() < 10
    for first, second in itertools.pairwise(orders):
        assert (first == second).sum() < 10


def test_parts_of_a_permutation_agree():
    """Any part is computed without the rest."""
    whole = permuted(np.arange(1000), 1000, 7, 2)
    assert (permuted(np.arange(300, 400), 1000, 7, 2) == whole[300:400]).all()


def test_bijective_over_each_epoch(dataset):
    """Each window of each shard once in every epoch, in another order."""
    size = dataset.samples_per_epoch
    assert size == (103 - 1) // LENGTH + (57 - 1) // LENGTH
    epochs = [[dataset.locate(epoch * size + n) for n in range(size)] for epoch in range(3)]
    windows = {(0, n * LENGTH) for n in range(25)} | {(2, n * LENGTH) for n in range(14)}
    orders = [[(at.shard, at.offset) for at in epoch] for epoch in epochs]
    assert all(set(order) == windows for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert [{at.epoch for at in epoch} for epoch in epochs] == [{0}, {1}, {2}]


def test_every_token_is_predicted_once(dataset):
    """Targets of one epoch don't overlap, and what is dropped is counted."""
    targets = dataset.samples(0, dataset.samples_per_epoch)[:, 1:].flatten()
    assert len(set(targets.tolist())) == len(targets)
    assert len(targets) + dataset.dropped_tokens == 103 + 4 + 57


def test_sample_is_the_files_own_tokens(dataset, files):
    """Offset and shard mean what they say."""
    shard = np.fromfile(files[0], np.uint16)
    for index in range(10):
        at = dataset.locate(index)
        if at.shard == 0:
            expected = shard[at.offset : at.offset + LENGTH + 1]
            assert (dataset.sample(index) == expected).all()


def test_unshuffled(files):
    """In the files' order."""
    plain = TokenDataset(files, LENGTH, shuffle=False)
    assert [plain.locate(n).offset for n in range(3)] == [0, LENGTH, 2 * LENGTH]


def test_blocks_make_no_difference(files, monkeypatch):
    """How much of the order is computed at once is nobody's business."""
    large = TokenDataset(files, LENGTH, seed=3)
    expected = [large.locate(n) for n in range(100)]
    monkeypatch.setattr(tokens, "BLOCK", 7)
    small = TokenDataset(files, LENGTH, seed=3)
    assert [small.locate(n) for n in range(100)] == expected


def global_batches(dataset, batch_size, world_size, count, state=None):
    """What all ranks take together, and the state after it."""
    ranks = [dataset.batches(batch_size, Place(rank, world_size)) for rank in range(world_size)]
    for rank in ranks if state else ():
        rank.load_state_dict(state)
    taken = [torch.cat([next(rank) for rank in ranks]) for _ in range(count)]
    assert len({str(rank.state_dict()) for rank in ranks}) == 1
    return taken, ranks[0].state_dict()


@settings(max_examples=25)
@given(st.integers(0, 12), st.sampled_from([1, 2, 3, 6]), st.sampled_from([1, 2, 3, 6]))
def test_resume_at_any_point_and_world_size(dataset, stop, before, after):
    """The same global sequence, over the ends of epochs too."""
    whole, _ = global_batches(dataset, 6, 1, 20)
    first, state = global_batches(dataset, 6, before, stop)
    second, _ = global_batches(dataset, 6, after, 20 - stop, state)
    assert torch.equal(torch.cat(whole), torch.cat([*first, *second]))


def test_resume_with_another_batch_size(dataset):
    """The position is in samples, so nothing is read twice or left out."""
    _, state = global_batches(dataset, 6, 2, 3)
    [batch], _ = global_batches(dataset, 4, 2, 1, state)
    assert torch.equal(batch, dataset.samples(18, 4))


def test_epochs_end(dataset):
    """A given number of epochs ends before the batch that would not be full."""
    batches = list(dataset.batches(4, epochs=2))
    assert len(batches) == 2 * dataset.samples_per_epoch // 4
    assert batches[0].shape == (4, LENGTH + 1)
    assert batches[0].dtype == torch.int64


def test_epoch_counts(dataset):
    """The epoch is that of the next sample."""
    batches = dataset.batches(dataset.samples_per_epoch)
    assert batches.epoch == 0
    next(batches)
    assert batches.epoch == 1


@pytest.mark.parametrize("change", [{"seed": 4}, {"sequence_length": 5}, {"shuffle": False}])
def test_state_of_other_data(dataset, files, change):
    """A position means nothing with another order, and is refused."""
    state = dataset.batches(1).state_dict()
    other = TokenDataset(files, **{"sequence_length": LENGTH, "seed": 3, **change})
    with pytest.raises(TokenError, match="saved position"):
        other.batches(1).load_state_dict(state)


def test_batch_that_ranks_do_not_divide(dataset):
    """Parts of different sizes would weigh samples differently."""
    with pytest.raises(TokenError, match="not a multiple of the 4"):
        dataset.batches(6, Place(0, 4))


def test_raw_formats(tmp_path):
    """32-bit tokens, and a header to be skipped."""
    numbers = np.arange(70_000, 70_010, dtype=np.uint32)
    (tmp_path / "a.bin").write_bytes(bytes(16) + numbers.tobytes())
    dataset = TokenDataset([tmp_path / "a.bin"], 9, raw=Raw(UINT32.dtype, skip_bytes=16))
    assert dataset.sample(0).tolist() == numbers.tolist()


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.bin", b"123", "no multiple of 2"),
        ("a.bin", b"", "hold no sequence"),
        ("a.npy", b"123", "can't be mapped"),
    ],
)
def test_broken_files(tmp_path, name, content, match):
    """A cut or foreign file is named before training starts."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TokenError, match=match):
        TokenDataset([tmp_path / name], LENGTH)


def test_arrays_that_are_no_tokens(tmp_path):
    """Floats, and more than one dimension."""
    np.save(tmp_path / "a.npy", np.zeros(9))
    np.save(tmp_path / "b.npy", np.zeros((3, 3), np.uint16))
    for name in ("a.npy", "b.npy"):
        with pytest.raises(TokenError, match="one dimension of integers"):
            TokenDataset([tmp_path / name], LENGTH)
    with pytest.raises(TokenError, match="can't be mapped"):
        TokenDataset([tmp_path / "none.bin"], LENGTH)


def llm_c(path, tokens, magic=20240520, count=None):
    """A shard as llm.c's scripts write it."""
    header = np.zeros(256, "<i4")
    header[:3] = magic, 1, len(tokens) if count is None else count
    path.write_bytes(header.tobytes() + tokens.tobytes())
    return path


@pytest.mark.parametrize(("magic", "kind"), [(20240520, np.uint16), (20240801, np.uint32)])
@pytest.mark.parametrize("raw", [tokens.UINT16, UINT32, Raw(np.uint16, 1024)])
def test_llm_c(tmp_path, magic, kind, raw):
    """Its header says how to read it, and is not text."""
    data = TokenDataset(
        [llm_c(tmp_path / "a.bin", np.arange(9, dtype=kind), magic)], 8, shuffle=False, raw=raw
    )
    assert data.samples(0, 1).tolist() == [[*range(9)]]


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda path: llm_c(path, np.arange(9, dtype=np.uint16), count=99), "says 99 tokens"),
        (
            lambda path: llm_c(path, np.arange(9, dtype=np.uint16), magic=20990101),
            r"unknown kind, 20990101; raw=Raw\(np.uint16, 1024\)",
        ),
        (lambda path: path.write_bytes(b"\x93NUMPY" + bytes(200)), "it is a .npy file"),
        (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(200)), "it is a zip archive"),
        (lambda path: path.write_bytes(b"PAR1" + bytes(200)), "it is a Parquet file"),
    ],
)
def test_bin_files_of_another_kind(tmp_path, make, what):
    """Refused by name, and not read as tokens."""
    make(tmp_path / "a.bin")
    with pytest.raises(TokenError, match=what):
        TokenDataset([tmp_path / "a.bin"], 8)


def test_tokens_that_only_look_like_a_header(tmp_path):
    """Read as they are: the count that a header holds does not fit the file."""
    numbers = np.arange(1000, dtype=np.uint16)
    numbers.tofile(tmp_path / "a.bin")
    data = TokenDataset([tmp_path / "a.bin"], 999, shuffle=False)
    assert data.samples(0, 1).tolist() == [[*range(1000)]]
