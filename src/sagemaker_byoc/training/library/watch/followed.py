"""One optimizer that the watch follows: its steps, and what is measured when one is due."""

from __future__ import annotations

import re
import weakref
from time import perf_counter
from typing import TypeAlias

import torch
from torch import nn
from torch.optim import Optimizer

from sagemaker_byoc.training.library.watch.backward import WINDOW, found_overflow
from sagemaker_byoc.training.library.watch.panel import Panel
from sagemaker_byoc.training.library.watch.probe import (
    Layers,
    Parameter,
    Updates,
    find_roots,
    is_watched,
    look,
    named_parameters,
)
from sagemaker_byoc.training.library.watch.rules.base import Activation, Stats, say_to_log
from sagemaker_byoc.training.library.watch.settings import WatchSettings

Looked: TypeAlias = tuple[list[Stats], dict[str, float], list[Activation]]

MOST_TIMES = 4096
MOST_SKIPS = 32
"""Consecutive skipped steps to wait for: then a scale of 65,536 is below 0.0001, and does not
explain a value that is still not finite."""
RESTING = 0.01
"""Share of a group's highest learning rate below which its weights hardly change."""
WARM_UP = 3
"""First steps whose duration is not typical: caches, compilation, allocation."""


class Followed:
    """An optimizer whose steps are counted from 0; most of them cost one call of `count`."""

    def __init__(
        self,
        optimizer: Optimizer,
        settings: WatchSettings,
        panel: Panel,
        number: int,
        roots: list[weakref.ref[nn.Module]],
    ) -> None:
        self.number = number
        self.step = -1
        self.is_due = False
        self._optimizer = weakref.ref(optimizer, lambda _: self.close())
        self._skips = 0
        self._peaks: dict[int, float] = {}
        """The highest learning rate of each group so far."""
        self._settings = settings
        self._panel = panel
        self._roots = roots
        self._parameters: list[Parameter] | None = None
        self._count = 0
        self._updates = Updates(panel.epsilon)
        self._layers = Layers(panel.ranges, panel.inactivity)
        self._next = max(0, settings.start_step)
        self._attention = 0
        """The next step that needs more than counting."""
        self._times: list[float] = []
        self._last = perf_counter()
        self._is_broken = False
        self.has_own_loss = False
        self.shares_loss = False
        self._has_searched = False

    @property
    def optimizer(self) -> Optimizer | None:
        return self._optimizer()

    @property
    def prefix(self) -> str:
        """The start of all names; empty for the first optimizer."""
        return f"optimizer{self.number}/" if self.number else ""

    @property
    def last_step_at(self) -> float:
        """The time of the last step on time.monotonic's clock, which is perf_counter's on Linux."""
        return self._last

    @property
    def steps_to_go(self) -> int:
        return self._next - self.step

    def count(self) -> bool:
        """Count a step. Return whether it needs more."""
        self.step += 1
        now = perf_counter()
        if self.step > WARM_UP and len(self._times) < MOST_TIMES:
            self._times.append(now - self._last)
        self._last = now
        if self.step < self._attention:
            return False
        self.is_due = self.step >= self._next
        return True

    def take_times(self) -> list[float]:
        taken, self._times = self._times, []
        return taken

    def prepare_next(self) -> None:
        """Plan the next step to check, and keep what is needed of the step before it."""
        if self.is_due:
            last = self._settings.end_step
            self._next = self._following(self.step)
            if last is not None and self._next > last:
                self._next = 1 << 62
        self.is_due = False
        window = self._next - WINDOW
        if self.step == self._next - 1:
            self._prepare()
            self._attention = self._next
        elif self.step < window:
            self._attention = window
        else:
            self._attention = self._next - 1

    def postpone(self) -> bool:
        """Return whether the due step was skipped because of an overflow; then the next one is due.

        A fused optimizer skips inside its kernel, which leaves the gradients scaled.
        """
        optimizer = self._optimizer()
        found_inf = found_overflow(optimizer) if optimizer is not None else None
        if found_inf is None or not float(found_inf) or self._skips >= MOST_SKIPS:
            self._skips = 0
            return False
        self._skips += 1
        self._next = self.step + 1
        self.is_due = False
        return True

    def look(self) -> Looked:
        if self._is_broken:
            return [], {}, []
        try:
            with torch.no_grad():
                return self._look()
        except Exception as error:  # noqa: BLE001 - an unknown layout, device or optimizer
            self._give_up(error)
            return [], {}, []

    def close(self) -> None:
        """Release the parameters, and keep the count of steps."""
        self._layers.remove()
        self._parameters = None

    def _give_up(self, error: Exception) -> None:
        self._is_broken = True
        say_to_log(f"tensors are not checked any more: {type(error).__name__}: {error}")

    def _look(self) -> Looked:
        optimizer = self._optimizer()
        if optimizer is None:
            return [], {}, []
        parameters = self._named(optimizer)
        tensors = look(parameters, self._panel.wants, _scale_left(optimizer))
        resting = self._resting(optimizer)
        names = {one.name for one in parameters if id(one.tensor) in resting}
        for stats in tensors:
            stats.is_resting = stats.name in names
        ratios = {
            name: ratio for name, ratio in self._updates.ratios().items() if name not in names
        }
        return tensors, ratios, self._layers.take()

    def _resting(self, optimizer: Optimizer) -> set[int]:
        """Return the identities of parameters whose scheduled learning rate is about zero."""
        found: set[int] = set()
        for place, group in enumerate(optimizer.param_groups):
            rate = group.get("lr")
            if rate is None:
                continue
            peak = self._peaks[place] = max(self._peaks.get(place, 0.0), float(rate))
            if peak > 0 and float(rate) <= RESTING * peak:
                found.update(id(one) for one in group["params"])
        return found

    def _prepare(self) -> None:
        optimizer = self._optimizer()
        if optimizer is None or self._is_broken:
            return
        try:
            if self._panel.wants.updates:
                with torch.no_grad():
                    self._updates.before(self._named(optimizer))
            if self._panel.wants_activations and self.number == 0:
                self._layers.prepare(self._live_roots(optimizer))
        except Exception as error:  # noqa: BLE001 - as in `look`
            self._give_up(error)

    def _following(self, step: int) -> int:
        if step < self._panel.first_steps:
            return step + 1
        return step - step % self._settings.save_interval + self._settings.save_interval

    def _named(self, optimizer: Optimizer) -> list[Parameter]:
        if self._parameters is None or _count(optimizer) != self._count:
            self._count = _count(optimizer)
            self._parameters = [
                Parameter(self.prefix + one.name, one.tensor)
                for one in named_parameters(optimizer, self._live_roots(optimizer))
                if is_watched(one.tensor)
            ]
        regex = self._settings.include_regex
        if regex is None:
            return self._parameters
        return [one for one in self._parameters if re.search(regex, one.name)]

    def _live_roots(self, optimizer: Optimizer) -> list[nn.Module]:
        """Return the models of all optimizers; search this one's if the program named none."""
        roots = [root for one in self._roots if (root := one()) is not None]
        if not self._has_searched:
            self._has_searched = True
            known = {id(tensor) for root in roots for tensor in root.parameters()}
            if any(id(p) not in known for group in optimizer.param_groups for p in group["params"]):
                found = find_roots(optimizer)
                self._roots += [weakref.ref(root) for root in found]
                roots += found
        return roots


def _scale_left(optimizer: Optimizer) -> torch.Tensor | None:
    """Return the factor that the gradients still have after a step on scaled ones. Torch's own
    optimizers unscale them in place."""
    scale: torch.Tensor | None = getattr(optimizer, "grad_scale", None)
    is_torchs = getattr(type(optimizer).step, "__module__", "").startswith("torch.optim.")
    return None if is_torchs else scale


def _count(optimizer: Optimizer) -> int:
    return sum(len(group["params"]) for group in optimizer.param_groups)
