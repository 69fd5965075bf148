"""One optimizer that is followed: its steps, and what is looked at when one is due."""

from __future__ import annotations

import re
import weakref
from time import perf_counter
from typing import TypeAlias

import torch
from torch import nn
from torch.optim import Optimizer

from sagemaker_byoc.training.library.watch.backward import WINDOW
from sagemaker_byoc.training.library.watch.journal import say_to_log
from sagemaker_byoc.training.library.watch.layers import Layers
from sagemaker_byoc.training.library.watch.panel import Panel
from sagemaker_byoc.training.library.watch.parameters import (
    Parameter,
    find_roots,
    is_watched,
    named_parameters,
)
from sagemaker_byoc.training.library.watch.probe import Updates, look
from sagemaker_byoc.training.library.watch.rules.base import Activation, Stats
from sagemaker_byoc.training.library.watch.settings import WatchSettings

Looked: TypeAlias = tuple[list[Stats], dict[str, float], list[Activation]]

MOST_TIMES = 4096
WARM_UP = 3
"""Steps whose duration says nothing: caches, compilation, allocation."""


class Followed:
    """Steps are counted from 0. `count` is all that most of them cost."""

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
        self._optimizer = weakref.ref(optimizer)
        self._settings = settings
        self._panel = panel
        self._roots = roots
        self._parameters: list[Parameter] | None = None
        self._count = 0
        self._updates = Updates(panel.epsilon)
        self._layers = Layers(panel.ranges, panel.inactivity)
        self._next = max(0, settings.start_step)
        self._attention = 0
        """The step at which more is to be done than counting: one before the next, or the next."""
        self._times: list[float] = []
        self._last = perf_counter()
        self._is_broken = False
        self._has_searched = False

    @property
    def last_step_at(self) -> float:
        """On time.monotonic's clock, which perf_counter shares on Linux."""
        return self._last

    @property
    def steps_to_go(self) -> int:
        return self._next - self.step

    def count(self) -> bool:
        """One more step; whether there is something to do about it."""
        self.step += 1
        now = perf_counter()
        if self.step > WARM_UP and len(self._times) < MOST_TIMES:
            self._times.append(now - self._last)
        self._last = now
        if self.step < self._attention:
            return False
        self.is_due = self.step >= self._next
        return not self._is_broken

    def take_times(self) -> list[float]:
        taken, self._times = self._times, []
        return taken

    def prepare_next(self) -> None:
        """Plan the next step to look at, and take what is needed from the step before it."""
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

    def look(self) -> Looked:
        try:
            with torch.no_grad():
                return self._look()
        except RuntimeError as error:  # of torch: a layout or a device that we don't know
            self._is_broken = True
            say_to_log(f"tensors are not looked at any more: {error}")
            return [], {}, []

    def close(self) -> None:
        self._layers.remove()

    def _look(self) -> Looked:
        optimizer = self._optimizer()
        if optimizer is None:
            return [], {}, []
        parameters = self._named(optimizer)
        scale = getattr(optimizer, "grad_scale", None)  # a fused step unscales by itself
        tensors = look(parameters, self._panel.wants, scale)
        return tensors, self._updates.ratios(), self._layers.take()

    def _prepare(self) -> None:
        optimizer = self._optimizer()
        if optimizer is None or self._is_broken:
            return
        if self._panel.wants.updates:
            with torch.no_grad():
                self._updates.before(self._named(optimizer))
        if self._panel.wants_activations and self.number == 0:
            self._layers.prepare(self._live_roots(optimizer))

    def _following(self, step: int) -> int:
        if step < self._panel.first_steps:
            return step + 1
        return step - step % self._settings.save_interval + self._settings.save_interval

    def _named(self, optimizer: Optimizer) -> list[Parameter]:
        if self._parameters is None or _count(optimizer) != self._count:
            self._count = _count(optimizer)
            prefix = f"optimizer{self.number}/" if self.number else ""
            self._parameters = [
                Parameter(prefix + one.name, one.tensor)
                for one in named_parameters(optimizer, self._live_roots(optimizer))
                if is_watched(one.tensor)
            ]
        regex = self._settings.include_regex
        if regex is None:
            return self._parameters
        return [one for one in self._parameters if re.search(regex, one.name)]

    def _live_roots(self, optimizer: Optimizer) -> list[nn.Module]:
        """Of all optimizers; those of this one are looked for if no one named them."""
        roots = [root for one in self._roots if (root := one()) is not None]
        if not self._has_searched:
            self._has_searched = True
            known = {id(tensor) for root in roots for tensor in root.parameters()}
            if any(id(p) not in known for group in optimizer.param_groups for p in group["params"]):
                found = find_roots(optimizer)
                self._roots += [weakref.ref(root) for root in found]
                roots += found
        return roots


def _count(optimizer: Optimizer) -> int:
    return sum(len(group["params"]) for group in optimizer.param_groups)
