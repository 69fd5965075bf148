"""The GPT example: which tokens a step reads, and a whole run of it that is resumed."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

EXAMPLE = Path(__file__).parents[2] / "examples/gpt"
LENGTH = 4
WINDOWS = (103 - 1) // LENGTH + (57 - 1) // LENGTH

specification = importlib.util.spec_from_file_location("gpt_data", EXAMPLE / "data.py")
data = importlib.util.module_from_spec(specification)
specification.loader.exec_module(data)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three shards; every token is its own place, so that windows are unique."""
    folder = tmp_path_factory.mktemp("tokens")
    sizes = [103, 4, 57]  # the second is too short for one window
    shards = np.split(np.arange(sum(sizes), dtype=np.uint16), np.cumsum(sizes)[:-1])
    for name, shard in zip("abc", shards, strict=True):
        np.save(folder / f"{name}.npy", shard)
    return sorted(folder.iterdir())


def taken(files, batch_size, world_size, count, first=0):
    """What all ranks take together in `count` steps."""
    ranks = [
        iter(data.batches(files, LENGTH, batch_size, first=first, seed=3, rank=rank,
                          world_size=world_size))
        for rank in range(world_size)
    ]  # fmt: skip
    return [torch.cat([next(rank) for rank in ranks]) for _ in range(count)]


def test_every_window_once_per_epoch(files):
    """Each token is predicted once per epoch, in another order each time."""
    epochs = torch.cat(taken(files, WINDOWS, 1, 3)).split(WINDOWS)
    starts = [epoch[:, 0].tolist() for epoch in epochs]
    expected = [*range(0, 100, LENGTH), *range(107, 107 + 56, LENGTH)]
    assert all(sorted(own) == expected for own in starts)
    assert len({tuple(own) for own in starts}) == 3
    assert epochs[0].shape == (WINDOWS, LENGTH + 1)
    assert epochs[0].dtype == torch.int64
    assert (epochs[0].diff() == 1).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 12), st.sampled_from([1, 2, 3, 6]), st.sampled_from([1, 2, 3, 6]))
def test_resume_at_any_step_and_world_size(files, stop, before, after):
    """The same global sequence, over the ends of epochs too."""
    whole = taken(files, 6, 1, 20)
    parts = taken(files, 6, before, stop) + taken(files, 6, after, 20 - stop, first=stop)
    assert torch.equal(torch.cat(whole), torch.cat(parts))


def test_without_a_seed_in_their_order(files):
    """Validation reads the windows as they come."""
    batch = next(iter(data.batches(files, LENGTH, 3)))
    assert batch[:, 0].tolist() == [0, LENGTH, 2 * LENGTH]


def test_what_can_not_be_read(files):
    """No window at all, and a batch that the processes can't share."""
    with pytest.raises(ValueError, match=r"no sequence of 200 \+ 1 tokens"):
        data.Windows(files, 200)
    with pytest.raises(ValueError, match="shared by 4"):
        data.Steps(10, 6, world_size=4)


@pytest.mark.slow
def test_a_resumed_run_continues_exactly(tmp_path):
    """The losses of a run that was ended and resumed are those of one run."""
    channel = tmp_path / "whole/input/data/train"
    channel.mkdir(parents=True)
    tokens = np.random.default_rng(0).integers(0, 257, 2000)
    np.save(channel / "t.npy", tokens.astype(np.uint16))
    (tmp_path / "parts/input").mkdir(parents=True)
    (tmp_path / "parts/input/data").symlink_to(channel.parent)
    whole = run(tmp_path / "whole", steps=6)
    run(tmp_path / "parts", steps=3)
    assert run(tmp_path / "parts", steps=6) == whole
    assert [row["step"] for row in whole] == list(itertools.chain(range(1, 7)))


def run(tree, steps):
    """Train a tiny model; the step, loss and norm of every step so far."""
    # The learning rate follows the number of steps: it stays in the warm-up here.
    parameters = {
        "layers": 1, "heads": 1, "width": 16, "length": 16, "batch_size": 4, "micro_batch": 2,
        "steps": steps, "warmup": 100, "compile": False, "save_every": 100,
    }  # fmt: skip
    configuration = tree / "input/config"
    configuration.mkdir(exist_ok=True)
    texts = {name: json.dumps(value) for name, value in parameters.items()}
    (configuration / "hyperparameters.json").write_text(json.dumps(texts))
    (configuration / "inputdataconfig.json").write_text(
        json.dumps({"train": {"TrainingInputMode": "File"}})
    )
    environment = {**os.environ, "SAGEMAKER_BASE_DIR": str(tree), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, str(EXAMPLE / "train.py")], env=environment, check=True, timeout=300
    )
    rows = (tree / "output/data/metrics.jsonl").read_text().splitlines()
    wanted = ("step", "loss", "grad_norm")
    return [{name: row[name] for name in wanted} for row in map(json.loads, rows)]
