"""Short trainings on scikit-learn's data, with a watch of all rules on them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from sklearn.datasets import load_breast_cancer, load_digits
from torch import nn

from sagemaker_byoc.training.library.watch.attach import watch


@dataclass
class Data:
    inputs: torch.Tensor
    labels: torch.Tensor

    @classmethod
    def digits(cls):
        inputs, labels = load_digits(return_X_y=True)
        return cls(torch.tensor(inputs / 16, dtype=torch.float32), torch.tensor(labels))

    @classmethod
    def breast_cancer(cls):
        inputs, labels = load_breast_cancer(return_X_y=True)
        scaled = (inputs - inputs.mean(0)) / inputs.std(0)
        return cls(torch.tensor(scaled, dtype=torch.float32), torch.tensor(labels))

    def shuffled(self, generator):
        order = torch.randperm(len(self.inputs), generator=generator)
        return Data(self.inputs[order], self.labels[order])

    def part(self, start, end):
        return Data(self.inputs[start:end], self.labels[start:end])


@dataclass
class Run:
    """One training; `rules` of None are all of them."""

    folder: object
    data: Data
    seed: int = 0
    examples: int = 0
    """For the training; the last fifth is always for the validation."""
    steps: int = 240
    every: int = 30
    batch: int = 64
    rate: float = 2e-3
    optimizer: type = torch.optim.AdamW
    rules: object = "all"
    validates: bool = True
    judges_predictions: bool = False
    said: list = field(default_factory=list)

    def train(self, make_model):
        generator = torch.Generator().manual_seed(self.seed)
        torch.manual_seed(self.seed)
        data = self.data.shuffled(generator)
        split = len(data.inputs) * 4 // 5
        seen, unseen = data.part(0, self.examples or split), data.part(split, None)
        model = make_model()
        watched = watch(
            model, rules=self.rules, save_interval=self.every, folder=self.folder / "watch"
        )
        watched.journal._say = self.said.append
        try:
            self._steps(model, watched, seen, unseen, generator)
        finally:
            watched.close()
        return watched

    def _steps(self, model, watched, seen, unseen, generator):
        optimizer = self.optimizer(model.parameters(), lr=self.rate)
        loss_of = nn.CrossEntropyLoss()
        for step in range(self.steps):
            batch = torch.randint(0, len(seen.inputs), (self.batch,), generator=generator)
            optimizer.zero_grad()
            loss_of(model(seen.inputs[batch]), seen.labels[batch]).backward()
            optimizer.step()
            if step and step % self.every == 0:
                model.eval()
                with torch.no_grad():
                    scores = model(unseen.inputs)
                if self.validates:
                    watched.loss(loss_of(scores, unseen.labels))
                if self.judges_predictions and step >= self.steps - self.every:
                    with torch.no_grad():
                        watched.predictions(self.data.labels, model(self.data.inputs))
                model.train()


def fired(watched):
    return {finding.rule for finding in watched.findings}


def mlp(inputs=64, outputs=10, width=256, drop=0.3):
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.ReLU(),
        nn.Dropout(drop),
        nn.Linear(width, width // 2),
        nn.ReLU(),
        nn.Dropout(drop),
        nn.Linear(width // 2, outputs),
    )
