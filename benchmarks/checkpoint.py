"""How long is a training step held up by an asynchronous checkpoint, against a synchronous one?

    python benchmarks/checkpoint.py [FOLDER]

Writes checkpoint.json beside itself. The table and the predictions are in checkpoint.md.
"""

from __future__ import annotations

import functools
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from sagemaker_byoc.training.library.checkpoint import Checkpointer

WIDTH, LAYERS, ROUNDS = 2048, 4, 9
"""16.8 M parameters: 67 MB of weights, 201 MB with AdamW's moments."""


def milliseconds(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1e3


def make() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))
    return model, torch.optim.AdamW(model.parameters())


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model(torch.ones(4, WIDTH)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def save_and_wait(checkpointer: Checkpointer, number: int) -> None:
    checkpointer.save(number)
    checkpointer.wait()


def rounds(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, folder: str
) -> Iterator[dict[str, float]]:
    """One of each kind after the other, so that a slow minute of the machine slows all."""
    checkpointer = Checkpointer(model=model, optimizer=optimizer, folder=folder, every_seconds=None)
    number = 0
    for _ in range(ROUNDS + 1):
        found = {"step_alone_ms": statistics.median(
            milliseconds(lambda: step(model, optimizer)) for _ in range(8))}  # fmt: skip
        number += 1
        found["sync_ms"] = milliseconds(functools.partial(save_and_wait, checkpointer, number))
        number += 1
        found["async_ms"] = milliseconds(functools.partial(checkpointer.save, number))
        during = []
        while checkpointer.is_writing:
            during.append(milliseconds(lambda: step(model, optimizer)))
        found["step_while_writing_ms"] = statistics.median(during)
        checkpointer.wait()
        yield found
    checkpointer.close()


def summary(ratios: list[float]) -> dict[str, Any]:
    found = [round(ratio, 4) for ratio in sorted(ratios)]
    return {"median": statistics.median(found), "all": found}


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as folder:
        model, optimizer = make()
        step(model, optimizer)
        _, *found = rounds(model, optimizer, folder)  # the first allocates the host buffers
        size = sum(file.stat().st_size for file in Path(folder).rglob("step-*/*"))
    blocked = [each["async_ms"] / each["sync_ms"] for each in found]
    slower = [each["step_while_writing_ms"] / each["step_alone_ms"] for each in found]
    medians = {name: statistics.median(each[name] for each in found) for name in found[0]}
    result = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "checkpoint_mb": round(size / 2 / 1e6, 1),
        "median": {name: round(value, 1) for name, value in medians.items()},
        "async_over_sync": summary(blocked),
        "step_while_writing_over_alone": summary(slower),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
