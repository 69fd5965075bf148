"""Train a small regression on scikit-learn's diabetes data; write its weights to DIR/model.pth."""

import argparse
import sys
from pathlib import Path

import torch
from sklearn.datasets import load_diabetes
from torch import nn

sys.path.insert(0, str(Path(__file__).parent / "code"))
from net import Net

STEPS = 500


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(0)
    data = load_diabetes()
    features = torch.tensor(data.data, dtype=torch.float32)
    progress = torch.tensor(data.target, dtype=torch.float32)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(features), progress / 100)
        loss.backward()
        optimizer.step()
    print(f"loss {loss.item():.3f}")
    torch.save(model.state_dict(), directory / "model.pth")


if __name__ == "__main__":
    main()
