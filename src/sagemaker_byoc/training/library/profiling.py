"""A profile of a few steps, given as "10:15"; without them it costs one comparison per step.

For user scripts; works alone. Written into output/data/profile: a trace for chrome://tracing or
Perfetto, and on CUDA a memory snapshot for pytorch.org/memory_viz.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.training.library.ranks import global_rank

logger = logging.getLogger(__name__)


class Profile:
    """Profiles the steps from a up to, not including, b of `steps="a:b"`; none if it is empty.

    Call `step(n)` after step n, as the checkpointer's. `ranks` are those that are profiled.
    """

    def __init__(
        self, steps: str | None, *, folder: Path | None = None, ranks: tuple[int, ...] = (0,)
    ) -> None:
        self._rank = global_rank()
        first, end = parse_steps(steps) if steps and self._rank in ranks else (None, None)
        self._begin_after = first - 1 if first is not None else None
        self._end_after = end - 1 if end is not None else None
        self._label = (steps or "").replace(":", "-")
        self._folder = folder or Tree.from_environ(os.environ).output_data / "profile"
        self._profiler: profile | None = None
        if self._begin_after == 0:
            self._begin()

    def step(self, number: int) -> None:
        if number == self._begin_after:
            self._begin()
        elif number == self._end_after:
            self.close()

    def close(self) -> None:
        """Write what was recorded, even if the program ends before the last step of the range."""
        if self._profiler is None:
            return
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        try:
            self._write(profiler)
        except (OSError, RuntimeError) as error:  # a lost trace does not end the training
            logger.warning("no profile of steps %s: %s", self._label, error)

    def _write(self, profiler: profile) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        trace = self._folder / f"steps-{self._label}-rank-{self._rank}.trace.json"
        profiler.export_chrome_trace(str(trace))
        logger.info("profile of steps %s: %s", self._label, trace)
        if torch.cuda.is_available():
            # Underscored, but what PyTorch's guide to memory usage tells users to call.
            memory = torch.cuda.memory
            file = str(trace.with_name(trace.stem + ".memory.pickle"))
            memory._dump_snapshot(file)  # type: ignore[no-untyped-call]  # noqa: SLF001
            memory._record_memory_history(enabled=None)  # noqa: SLF001

    def _begin(self) -> None:
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
            torch.cuda.memory._record_memory_history(max_entries=100_000)  # noqa: SLF001
        # There is one cycle, so nothing accumulates; without acc_events torch before 2.13 warns.
        self._profiler = profile(activities=activities, record_shapes=True, acc_events=True)
        self._profiler.start()


def parse_steps(text: str) -> tuple[int, int]:
    """Return the two numbers of "10:15"; raise ValueError for another form."""
    match = re.fullmatch(r"(\d+):(\d+)", text.strip())
    if not match or not 1 <= int(match[1]) < int(match[2]):
        raise ValueError(f"profile={text!r}: give two steps like 10:15, the second greater, from 1")
    return int(match[1]), int(match[2])
