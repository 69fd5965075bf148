"""The Python blocks of the pages about the training library run as they stand there.

The blocks of a page share their names, as one script would. What a reader has already, such as a
model and batches, is given to them.
"""

from __future__ import annotations

import argparse
import re
import signal
import types
from pathlib import Path

import pytest
import torch

from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import Channel, write_channels
from sagemaker_byoc.training.library.watch.attach import current_watch

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = {
    "track-a-training": 1,
    "watch-a-training": 1,
    "pipe-and-fastfile": 3,
    "spot-safe-training": 4,
    "several-gpus-and-hosts": 0,
}


class Reader:
    """Batches with a position."""

    def __iter__(self):
        return self

    def __next__(self):
        return torch.ones(2, 4)

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class Model(torch.nn.Module):
    """As a model of transformers, it returns its loss."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)

    def forward(self, batch):
        return types.SimpleNamespace(loss=self.layer(batch).square().mean())


def train_step(model, optimizer, batch):
    loss = model(batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def names():
    """What the reader of a page has already."""
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return {
        "__name__": "page",
        "signal": signal,
        "torch": torch,
        "TrainerCallback": object,  # transformers is not installed here; tests/zoo trains with it
        "model": model,
        "optimizer": optimizer,
        "scheduler": torch.optim.lr_scheduler.ConstantLR(optimizer),
        "reader": Reader(),
        "batches": [torch.ones(2, 4)] * 20,
        "train": lambda batch: batch.mean(),
        "train_step": train_step,
        "evaluate": lambda _: None,
        "save_checkpoint": lambda: None,
        "validation_loss": torch.tensor(1.0),
        "labels": torch.tensor([0, 1]),
        "scores": torch.tensor([0.1, 0.9]),
        "build": Model,
        "seed": 0,
        "total": 3,
        "n": 20,
        "args": argparse.Namespace(profile=""),
    }


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job with the channels that the pages name; their numbers are for a test."""
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    tree = Tree(tmp_path)
    channels = ("train", "train-0")
    write_channels(tree, {name: Channel(name) for name in channels})
    for name in channels:
        tree.channel(name).mkdir(parents=True)
        (tree.channel(name) / "part-0").write_text("1\n2\n")
    tree.model.mkdir()
    (tree.model / "model.safetensors").write_bytes(b"x")
    return tmp_path


def runnable(page, folder):
    """The page's blocks with fewer steps."""
    for block in BLOCK.findall((HOW_TO / f"{page}.md").read_text()):
        for there, here in (
            ("10_000", "3"),
            ("/opt/ml", str(folder)),
        ):
            block = block.replace(there, here)  # noqa: PLW2901 - bit by bit
        yield block


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_blocks(page, job):
    """In their order, with the page's own imports."""
    scope = names()
    blocks = [*runnable(page, job)]
    assert len(blocks) == PAGES[page]
    try:
        for block in blocks:
            exec(compile(block, f"{page}.md", "exec"), scope)
    finally:
        watched = current_watch()
        if watched is not None:
            watched.close()


def test_save_on_stop_keeps_the_decisions_of_the_trainer(tmp_path):
    """The callback of the page adds a save at a stop, and takes none of the Trainer's own away."""
    block = next(block for block in runnable("spot-safe-training", tmp_path) if "OnStop" in block)
    scope = {"TrainerCallback": object, "signal": signal, "torch": torch}
    exec(compile(block, "spot-safe-training.md", "exec"), scope)
    arguments = argparse.Namespace(device="cpu")

    def after_step(*, due):
        control = argparse.Namespace(should_save=due, should_training_stop=due)
        scope["SaveOnStop"]().on_step_end(arguments, None, control)
        return control.should_save, control.should_training_stop

    assert after_step(due=True) == (True, True)
    assert after_step(due=False) == (False, False)
    scope["SaveOnStop"].stopped = True
    assert after_step(due=False) == (True, True)
