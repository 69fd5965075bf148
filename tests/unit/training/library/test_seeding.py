import os
import random

import numpy as np
import pytest
import torch

from sagemaker_byoc.training.library import seeding


def numbers():
    return random.random(), float(np.random.rand()), torch.rand(1).item()


def test_the_same_seed_gives_the_same_numbers():
    """In all three generators."""
    seeding.seed_everything(7)
    first = numbers()
    seeding.seed_everything(7)
    assert numbers() == first


def test_each_rank_has_numbers_of_its_own(monkeypatch):
    """Two ranks must not drop the same units nor shuffle alike; rank=0 makes them equal."""
    seeding.seed_everything(7)
    first = numbers()
    monkeypatch.setenv("RANK", "1")
    seeding.seed_everything(7)
    assert not set(numbers()) & set(first)
    seeding.seed_everything(7, rank=0)
    assert numbers() == first


def test_seeds_of_neighbours_do_not_overlap():
    """Rank 1 of seed 7 is not rank 0 of seed 8, nor worker 1 of rank 0."""
    seeds = {seeding.derive(seed, rank) for seed in range(50) for rank in range(50)}
    assert len(seeds) == 2500
    assert seeding.derive(7, 0, 1) != seeding.derive(7, 1, 0)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_workers_of_a_loader_differ():
    """numpy's global state is copied into each worker, where only this changes it."""
    torch.manual_seed(3)
    seeding.seed_worker(0)
    first = random.random(), np.random.rand()
    seeding.seed_worker(1)
    assert (random.random(), np.random.rand()) != first


def test_a_generator_has_numbers_of_its_own():
    """It neither reads nor moves the global state."""
    torch.manual_seed(3)
    state = torch.get_rng_state()
    one = torch.rand(1, generator=seeding.generator(1, 2))
    assert torch.equal(one, torch.rand(1, generator=seeding.generator(1, 2)))
    assert torch.equal(state, torch.get_rng_state())


@pytest.fixture
def restored(monkeypatch):
    monkeypatch.delenv(seeding.CUBLAS, raising=False)
    yield
    torch.use_deterministic_algorithms(False)
    os.environ.pop(seeding.CUBLAS, None)


def test_deterministic_mode_sets_what_cuda_needs(restored):
    """cuBLAS reads its variable when it is first used."""
    seeding.seed_everything(7, deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ[seeding.CUBLAS] == ":4096:8"


def test_a_setting_of_the_users_is_kept(restored, monkeypatch):
    """The other legal value uses less memory."""
    monkeypatch.setenv(seeding.CUBLAS, ":16:8")
    seeding.seed_everything(7, deterministic=True)
    assert os.environ[seeding.CUBLAS] == ":16:8"
