"""Trains a small model on random data and can be killed at any instant: folder, steps.

Every loss is appended to FOLDER/losses as `step hex-float`: runs can be compared bit by bit.
"""

import sys
from pathlib import Path

import torch

from sagemaker_byoc.training.library.checkpoint import Checkpointer

FOLDER, TOTAL = Path(sys.argv[1]), int(sys.argv[2])


class Positions:
    """A reader whose whole state is how much of it was read."""

    def __init__(self):
        self.at = 0

    def next(self):
        self.at += 1
        features = torch.sin(torch.arange(32 * 16, dtype=torch.float32) * self.at).view(32, 16)
        return features, features.sum(1, keepdim=True)

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


torch.manual_seed(0)
torch.set_num_threads(1)
model = torch.nn.Sequential(
    torch.nn.Linear(16, 256), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(256, 1)
)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10_000)
data = Positions()
checkpointer = Checkpointer(
    model=model,
    optimizer=optimizer,
    scheduler=scheduler,
    data=data,
    every_steps=3,
    folder=FOLDER / "checkpoints",
)

with open(FOLDER / "losses", "a", buffering=1) as losses:
    for step in checkpointer.steps(TOTAL):
        features, target = data.next()
        loss = torch.nn.functional.mse_loss(model(features), target)
        loss.backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.write(f"{step} {loss.item().hex()}\n")
