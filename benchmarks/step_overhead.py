"""What do metrics, stop flag and checkpointer.step add to a bare training loop?

    python benchmarks/step_overhead.py

Writes step_overhead.json beside itself. The table and the predictions are in step_overhead.md.
"""

from __future__ import annotations

import io
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from sagemaker_byoc.training.library.checkpoint import Checkpointer
from sagemaker_byoc.training.library.metrics import Metrics

WIDTH, BATCH, BLOCK, PAIRS = 384, 256, 20, 12


class Loop:
    """The bare loop, and the same with the library; the weights are one and the same."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(
            *(torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU()) for _ in range(4))
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.input = torch.randn(BATCH, WIDTH)
        self.number = 0
        self.checkpointer = Checkpointer(
            model=self.model, optimizer=self.optimizer, folder=folder / "c", every_seconds=3600.0
        )
        self.metrics = Metrics(
            file=folder / "metrics.jsonl",
            stream=io.StringIO(),
            counters={"checkpoint_block_ms": lambda: self.checkpointer.blocked_ms},
        )

    def backward(self) -> tuple[torch.Tensor, torch.Tensor]:
        loss = self.model(self.input).square().mean()
        loss.backward()
        return loss, torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)

    def bare(self) -> None:
        self.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def with_library(self) -> None:
        self.number += 1
        loss, norm = self.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.metrics.log(self.number, {"loss": loss, "norm": norm}, samples=BATCH)
        self.checkpointer.step(self.number)

    def library_alone(self) -> None:
        """Without the step itself, for microseconds that noise does not swallow."""
        self.number += 1
        loss = norm = torch.ones(())
        self.metrics.log(self.number, {"loss": loss, "norm": norm}, samples=BATCH)
        self.checkpointer.step(self.number)


def milliseconds(action: Callable[[], None], times: int) -> list[float]:
    """Return the processor time of each of `times` calls: other programs share the machine."""
    found = []
    for _ in range(times):
        start = time.process_time()
        action()
        found.append((time.process_time() - start) * 1e3)
    return found


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        loop = Loop(Path(folder))
        milliseconds(loop.bare, 10)
        milliseconds(loop.with_library, 10)
        bare, full = [], []
        for pair in range(PAIRS):  # blocks of both by turns; who is first changes
            order = [(loop.bare, bare), (loop.with_library, full)]
            for action, times in order if pair % 2 else order[::-1]:
                times.append(statistics.median(milliseconds(action, BLOCK)))
        alone = statistics.fmean(milliseconds(loop.library_alone, 2000))
        loop.checkpointer.close()
    ratios = sorted(with_it / without for with_it, without in zip(full, bare, strict=True))
    result = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "bare_step_ms": round(statistics.median(bare), 3),
        "library_step_ms": round(statistics.median(full), 3),
        "ratio": {"median": statistics.median(ratios), "all": ratios},
        "best_block_over_best_block": min(full) / min(bare),
        "library_alone_ms": round(alone, 4),
        "library_alone_over_bare_step": alone / statistics.median(bare),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
