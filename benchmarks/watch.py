"""What does the watch cost a step, and its sampler a core?

    python benchmarks/watch.py

Writes watch.json beside itself. The table and the predictions are in watch.md.
"""

# ruff: noqa: SLF001 - the hook is called by itself
from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from sagemaker_byoc.training.library.watch.attach import watch
from sagemaker_byoc.training.library.watch.system import Meter, SystemLines

STEPS, SAMPLER_READINGS = 1500, 400


def model(modules: int) -> nn.Sequential:
    """As many linear layers as asked for, each followed by a ReLU, and a gradient on each."""
    torch.manual_seed(0)
    linear = [nn.Linear(32, 32) for _ in range(modules // 2)]
    return nn.Sequential(*(layer for one in linear for layer in (one, nn.ReLU())))


def hook_cost(modules: int, interval: int, steps: int, rules: str | None) -> dict[str, float]:
    """Thread CPU time in the hook, in µs a step, less that of looking at the clock."""
    net = model(modules)
    for parameter in net.parameters():
        parameter.grad = torch.randn_like(parameter) * 1e-3
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    with tempfile.TemporaryDirectory() as folder:
        watched = watch(net, rules=rules, save_interval=interval, folder=Path(folder))
        watched.journal._say = lambda _: None
        hook = watched._hook()
        losses = watched._losses
        times = []
        tensors = [one for p in net.parameters() for one in (p, p.grad)]
        clock = []
        for step in range(steps):
            loss = torch.tensor(1 / (1 + step))  # falls, since a finding would write the page
            with torch.no_grad():  # outside of what is timed: as a step would, all values change
                torch._foreach_mul_(tensors, 0.9999)
            empty = time.thread_time_ns()
            start = time.thread_time_ns()
            if losses.is_open:
                losses._before_backward((loss,), {})
            hook(optimizer, (), {})
            times.append((time.thread_time_ns() - start) / 1e3)
            clock.append((start - empty) / 1e3)
        assert not watched.findings, watched.findings
        watched.close()
    cost = statistics.median(clock)
    after = [one - cost for one in times[3:]]
    return {
        "modules": modules,
        "tensors": len(list(net.parameters())),
        "interval": interval,
        "clock_us": round(cost, 2),
        "mean_us": round(statistics.fmean(after), 2),
        "median_us": round(statistics.median(after), 2),
        "worst_us": round(max(after), 0),
        "looked_at_us": round(statistics.fmean(sorted(after)[-max(1, steps // interval - 1) :]), 0),
        "first_step_us": round(times[0], 0),
    }


def sampler_cost() -> dict[str, float]:
    """Thread CPU of one reading with its lines written; as a share of a core at 500 ms."""
    with tempfile.TemporaryDirectory() as folder:
        meter, lines = Meter(), SystemLines(Path(folder), "algo-1")
        start = time.thread_time_ns()
        for _ in range(SAMPLER_READINGS):
            lines.add(meter.read())
        each = (time.thread_time_ns() - start) / 1e6 / SAMPLER_READINGS
    return {"ms_a_reading": round(each, 3), "percent_of_a_core_at_500_ms": round(each / 5, 3)}


def main() -> None:
    torch.set_num_threads(1)
    result = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} thread",
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 1),
        "hook": [
            hook_cost(42, 500, STEPS, None),
            hook_cost(200, 500, STEPS, None),
            hook_cost(400, 500, STEPS, None),
            hook_cost(200, 1, 60, None),
            hook_cost(200, 500, STEPS, "all"),
        ],
        "sampler": sampler_cost(),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
