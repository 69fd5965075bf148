"""Two classifiers on scikit-learn's data, as a multi-model endpoint has them: DIR/NAME/model/.

Each is a torch.export program with handlers of its own; both have a module named `labels`.
"""

import argparse
import shutil
from pathlib import Path

import torch
from sklearn.datasets import load_iris, load_wine
from torch import nn

STEPS = 300
DATA = {"iris": load_iris, "wine": load_wine}


class Classifier(nn.Module):
    """Rows of measurements to scores; they are brought to one scale first."""

    def __init__(self, rows, classes):
        super().__init__()
        self.register_buffer("mean", rows.mean(dim=0))
        self.register_buffer("spread", rows.std(dim=0))
        self.layers = nn.Sequential(nn.Linear(rows.shape[1], 16), nn.ReLU(), nn.Linear(16, classes))

    def forward(self, rows):
        return self.layers((rows - self.mean) / self.spread)


def make(name, folder):
    data = DATA[name]()
    rows, kinds = torch.tensor(data.data, dtype=torch.float32), torch.tensor(data.target)
    model = Classifier(rows, len(data.target_names))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(rows), kinds).backward()
        optimizer.step()
    model.eval()
    print(f"{name}: right on {(model(rows).argmax(1) == kinds).float().mean():.3f} of its own data")
    several = torch.export.Dim("rows", max=4096)
    exported = torch.export.export(model, (rows[:2],), dynamic_shapes=({0: several},))
    shutil.copytree(Path(__file__).parent / name / "code", folder / "code", dirs_exist_ok=True)
    torch.export.save(exported, folder / "model.pt2")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    torch.manual_seed(0)
    for name in DATA:
        make(name, directory / name / "model")


if __name__ == "__main__":
    main()
