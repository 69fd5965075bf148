"""A guard against NaN and infinite gradients that does not wait for the GPU at each step.

For user scripts; works alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

GUARDED = "_byoc_found_inf"
"""The attribute of an optimizer that is true during a step with gradients that were set to zero."""


class NonFiniteError(RuntimeError):
    """Gradients were not finite for several steps on end."""


class NonFiniteGuard:
    """Leaves out the optimizer steps whose gradients are not finite; gives up after `patience`.

    On the CPU, and for fused optimizers on a GPU, a left-out step changes nothing at all. Other
    optimizers on a GPU step with zero gradients instead, since not stepping would mean to wait
    for the GPU: momentum and weight decay still act. The GPU is asked once each `patience` steps.
    """

    def __init__(self, optimizer: Optimizer, *, patience: int = 5) -> None:
        if patience < 1:
            raise ValueError(f"patience={patience}: at least 1 step")
        self._optimizer = optimizer
        self._patience = patience
        self._calls = 0
        self._here = _Account()
        self._there: Tensor | None = None
        """The same account, in the same order, on a GPU."""
        self._is_fused = _is_fused(optimizer)

    @property
    def skipped(self) -> Tensor:
        """How many steps were left out so far; on the device, to be logged without waiting."""
        return torch.tensor(self._here.skipped) if self._there is None else self._there[0]

    def step(self, step: int, norm: Tensor | None = None) -> None:
        """`optimizer.step()`, unless the gradients are not finite; NonFiniteError on giving up.

        `norm` is their total norm if the script has it, from clip_grad_norm_; it is the same on
        every rank, and so is the decision.
        """
        norm = _total_norm(self._gradients()) if norm is None else _whole(norm)
        if norm.device.type == "cpu":
            self._step_here(step, is_bad=not math.isfinite(norm.item()))
        else:
            self._step_there(step, ~torch.isfinite(norm))

    def check(self) -> None:
        """NonFiniteError if there were too many bad steps on end; waits for the GPU."""
        if self._there is not None:
            self._here = _Account(*self._there.tolist())
        self._here.judge(self._patience)

    def _step_here(self, step: int, *, is_bad: bool) -> None:
        self._here.count(step, is_bad=is_bad)
        if is_bad:
            self._here.judge(self._patience)
        else:
            self._optimizer.step()

    def _step_there(self, step: int, is_bad: Tensor) -> None:
        self._count(step, is_bad)
        if self._is_fused:
            self._step_fused(is_bad)
        else:
            for gradient in self._gradients():
                gradient.masked_fill_(is_bad, 0.0)
            setattr(self._optimizer, GUARDED, is_bad)
            try:
                self._optimizer.step()
            finally:
                delattr(self._optimizer, GUARDED)
        self._calls += 1
        if self._calls % self._patience == 0:
            self.check()

    def _gradients(self) -> list[Tensor]:
        return [
            parameter.grad
            for group in self._optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]

    def _count(self, step: int, is_bad: Tensor) -> None:
        """`_Account.count` without an if: no value leaves the device."""
        if self._there is None:
            self._there = torch.zeros(5, dtype=torch.int64, device=is_bad.device)
        skipped, run, first, worst, worst_first = self._there.unbind()
        bad = is_bad.to(torch.int64)
        first = torch.where(is_bad & (run == 0), step, first)
        run = (run + 1) * bad
        is_worse = run > worst
        worst_first = torch.where(is_worse, first, worst_first)
        self._there = torch.stack(
            (skipped + bad, run, first, torch.maximum(run, worst), worst_first)
        )

    def _step_fused(self, is_bad: Tensor) -> None:
        """As torch.amp.GradScaler does: a fused kernel reads the flag itself."""
        optimizer = self._optimizer
        optimizer.grad_scale = None  # type: ignore[attr-defined]
        optimizer.found_inf = is_bad.to(torch.float32)  # type: ignore[attr-defined]
        try:
            optimizer.step()
        finally:
            del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]


@dataclass(slots=True)
class _Account:
    skipped: int = 0
    run: int = 0
    """Bad steps on end up to now, and the first of them."""
    first: int = 0
    worst: int = 0
    """The longest such run, and its first step."""
    worst_first: int = 0

    def count(self, step: int, *, is_bad: bool) -> None:
        if not is_bad:
            self.run = 0
            return
        self.skipped += 1
        self.first = step if self.run == 0 else self.first
        self.run += 1
        if self.run > self.worst:
            self.worst, self.worst_first = self.run, self.first

    def judge(self, patience: int) -> None:
        if self.worst >= patience:
            raise NonFiniteError(
                f"the gradients were not finite in {self.worst} steps on end, from step "
                f"{self.worst_first} ({self.skipped} steps were left out in all): lower the "
                "learning rate, clip the gradients, or look at the data of that step"
            )


def _is_fused(optimizer: Optimizer) -> bool:
    """Whether the optimizer's kernel can leave a step out by itself."""
    supports = getattr(optimizer, "_step_supports_amp_scaling", False)
    return bool(supports) and all(group.get("fused") for group in optimizer.param_groups)


def _total_norm(gradients: list[Tensor]) -> Tensor:
    return _whole(get_total_norm(gradients))


def _whole(norm: Tensor) -> Tensor:
    """The value over all ranks where gradients are sharded."""
    full = getattr(norm, "full_tensor", None)
    return (full() if callable(full) else norm).detach().reshape(())
