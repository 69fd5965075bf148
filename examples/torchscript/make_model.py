"""Train a small network on scikit-learn's scanned digits and write it as TorchScript: DIR/model.pt.

Nothing else is needed to serve it; DIR/../sample.csv has five scans to ask it about.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

STEPS = 300


class Classifier(nn.Module):
    """64 grey values from 0 to 16 a row, to the probabilities of ten digits."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def scores(self, scans):
        return self.layers(scans / 16)

    def forward(self, scans):
        return self.scores(scans).softmax(dim=1)


def train(model, scans, digits):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(STEPS):
        optimizer.zero_grad()
        functional.cross_entropy(model.scores(scans), digits).backward()
        optimizer.step()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(0)
    data = load_digits()
    scans, digits = torch.tensor(data.data, dtype=torch.float32), torch.tensor(data.target)
    model = Classifier()
    train(model, scans[:1500], digits[:1500])
    model.eval()
    right = (model(scans[1500:]).argmax(dim=1) == digits[1500:]).float().mean()
    print(f"right on scans it has not seen: {right:.3f}")
    torch.jit.trace(model, scans[:2]).save(str(directory / "model.pt"))
    np.savetxt(directory.parent / "sample.csv", data.data[-5:], fmt="%g", delimiter=",")


if __name__ == "__main__":
    main()
