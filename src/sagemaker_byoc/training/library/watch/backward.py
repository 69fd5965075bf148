"""The training loss of each optimizer: the sum of the backward passes that made its gradients.

torch.autograd.backward, which Tensor.backward calls too, is wrapped, and so is GradScaler.step;
both run outside compiled graphs. A pass belongs to each optimizer of which a gradient changed in
it. The sum starts over with a step, and when the gradients are found to be None or zero. Far from
a step that is checked, the wrapper costs one comparison.
"""

from __future__ import annotations

import gc
import math
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, ParamSpec, TypeAlias, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from sagemaker_byoc.training.library.watch.probe import local
from sagemaker_byoc.training.library.watch.rules.base import TRAIN, Loss, say_to_log

P = ParamSpec("P")
R = TypeVar("R")


def uncompiled(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function`, not to be compiled, with all that it calls; 1 µs per call."""
    made: Callable[P, R] | None = None

    def call(*arguments: P.args, **keywords: P.kwargs) -> R:
        nonlocal made
        if made is None:  # at the first call, since this imports Dynamo
            made = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
        return made(*arguments, **keywords)

    return call


WINDOW = 64
"""Steps over which the loss is averaged."""
MOST_PASSES = 4096
"""Passes that are kept for an optimizer that has not stepped yet."""

Gradient: TypeAlias = "tuple[Tensor, int] | None"
"""A gradient and the version of its memory, which each change in place increments."""


class Pass(NamedTuple):
    """One call of backward."""

    number: int
    loss: Tensor
    source: weakref.ref[Tensor]
    """The tensor that backward was called on."""


class Step(NamedTuple):
    """The passes before one optimizer step, summed up."""

    loss: Tensor
    passes: int
    found_inf: Tensor | None
    """Not zero if a fused optimizer under a gradient scaler skipped the step."""


class OptimizerLoss:
    """The loss of one optimizer."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.is_open = True
        """Whether losses are kept: from the start, and near each step that is checked."""
        self.last: tuple[int, ...] = ()
        """The numbers of the passes that led to the last step."""
        self._optimizer = weakref.ref(optimizer)
        self._passes: list[Pass] = []
        self._mark: tuple[Tensor, int, int] | None = None
        """A parameter that these passes changed, with its gradient's identity and version."""
        self._kept: deque[Step] = deque(maxlen=WINDOW)
        self._counts: deque[int] = deque(maxlen=WINDOW)

    def before(self) -> list[Gradient]:
        """Return the gradients at the start of a pass."""
        if self._passes and self._was_zeroed():
            self._passes.clear()
        return [_gradient(one) for one in self._parameters()]

    def after(self, one: Pass, before: list[Gradient]) -> None:
        """Add the pass if any gradient changed in it, unless a step within it has used it."""
        if self.last and one.number == self.last[-1]:
            return
        for parameter, old in zip(self._parameters(), before, strict=False):
            new = _gradient(parameter)
            if new is not None and (old is None or new[0] is not old[0] or new[1] != old[1]):
                self.add(one, parameter)
                break
        if self._mark is not None:
            self._remember(self._mark[0])

    def add(self, one: Pass, fed: Tensor | None = None) -> None:
        """Add a pass; the loss of a tensor that goes backward twice (retain_graph) counts once."""
        if not self._passes and fed is not None:
            self._remember(fed)
        source = one.source()
        if len(self._passes) < MOST_PASSES and all(o.source() is not source for o in self._passes):
            self._passes.append(one)

    def step(self, running: Pass | None, found_inf: Tensor | None, scale: Tensor | None) -> None:
        """Take a step of the optimizer; `running` is the pass in which it is made, if any."""
        passes, self._passes = self._passes or [one for one in (running,) if one], []
        self._mark = None
        if not passes:
            return
        self.last = tuple(one.number for one in passes)
        loss = passes[0].loss
        for one in passes[1:]:
            loss = loss + one.loss.to(loss.device)
        if found_inf is not None:
            found_inf = found_inf.detach().to(loss.device, torch.float32, copy=True).reshape(())
        if scale is not None:
            # The scaled loss may be infinite if no gradient is; a NaN is found in the gradients.
            overflow = (~torch.isfinite(loss)).float()
            found_inf = overflow if found_inf is None else found_inf + overflow
            loss = loss / scale.to(loss.device)
        self._kept.append(Step(loss, len(passes), found_inf))

    def take(self, step: int, name: str) -> Loss | None:
        """Return the mean of the kept losses, None without any; wait for the device."""
        kept = [*self._kept]
        self._kept.clear()
        self._counts.extend(one.passes for one in kept)
        if not kept:
            return None
        # The last accumulation of an epoch may have fewer passes, and so a smaller sum.
        usual = Counter(self._counts).most_common(1)[0][0]
        values = [*_values([one for one in kept if one.passes == usual])]
        if not values:
            return None
        mean = sum(values) / len(values)
        if len(values) < 2 or not math.isfinite(mean):
            return Loss(step, mean, name=name)
        squares = sum((value - mean) ** 2 for value in values)
        error = math.sqrt(squares / (len(values) - 1) / len(values))
        return Loss(step, mean, TRAIN, error=error, name=name)

    def _parameters(self) -> Iterator[Tensor]:
        optimizer = self._optimizer()
        if optimizer is not None:
            for group in optimizer.param_groups:
                yield from group["params"]

    def _remember(self, parameter: Tensor) -> None:
        now = _gradient(parameter)
        self._mark = (parameter, id(now[0]), now[1]) if now else None

    def _was_zeroed(self) -> bool:
        """Return whether the gradients were cleared since the last pass, without a step."""
        if self._mark is None:
            return True
        parameter, identity, version = self._mark
        now = _gradient(parameter)
        if now is None:
            return True
        if (id(now[0]), now[1]) == (identity, version):
            return False
        if now[0].is_cuda and torch.cuda.is_current_stream_capturing():  # no value can be read
            return False
        return not bool((now[0] != 0).any())


class Losses:
    """The losses of all optimizers of this process, from `install` until `remove`."""

    def __init__(self) -> None:
        self.is_open = True
        """Whether the loss of any optimizer is kept."""
        self._of: weakref.WeakKeyDictionary[Optimizer, OptimizerLoss] = weakref.WeakKeyDictionary()
        self._recent: list[Pass] = []
        """The passes since the last step, for an optimizer that is not known yet."""
        self._has_stepped = False
        self._has_searched = False
        self._number = 0
        self._running: Pass | None = None
        self._scale: Tensor | None = None
        self._undo: list[tuple[Any, str, Any]] = []

    def install(self) -> None:
        backward = torch.autograd.backward
        scaler = torch.amp.grad_scaler.GradScaler
        self._undo = [(torch.autograd, "backward", backward), (scaler, "step", scaler.step)]
        torch.autograd.backward = self._wrapped_backward(backward)
        scaler.step = self._wrapped_step(scaler.step)  # type: ignore[method-assign]

    def remove(self) -> None:
        for owner, name, original in reversed(self._undo):
            setattr(owner, name, original)
        self._undo.clear()

    def of(self, optimizer: Optimizer) -> OptimizerLoss:
        found = self._of.get(optimizer)
        if found is None:
            found = self._of[optimizer] = OptimizerLoss(optimizer)
            for one in self._recent:
                found.add(one)
        return found

    def step(self, optimizer: Optimizer) -> None:
        """Take a step of an optimizer, while losses are kept."""
        one = self.of(optimizer)
        if one.is_open:
            one.step(self._running, found_overflow(optimizer), self._scale)
        self._has_stepped = True

    def open(self, optimizer: Optimizer, *, is_open: bool) -> None:
        """Keep the losses of an optimizer from now on, or stop keeping them."""
        self.of(optimizer).is_open = is_open
        every = [*self._of.values()]
        is_new = self._number < WINDOW and any(not one.last for one in every)
        self.is_open = is_new or any(one.is_open and one.last for one in every)

    def is_newest(self, optimizer: Optimizer) -> bool:
        """Return whether the last step of an optimizer used the newest pass."""
        return self.of(optimizer).last[-1:] == (self._number,)

    def _wrapped_backward(self, original: Callable[..., Any]) -> Callable[..., Any]:
        begin, end = uncompiled(self._begin), uncompiled(self._end)

        def backward(*arguments: Any, **keywords: Any) -> Any:
            # A pass within a pass, of a checkpointed block, has no loss of its own.
            if not self.is_open or torch._C._current_graph_task_id() != -1:  # noqa: SLF001
                return original(*arguments, **keywords)
            before = begin(arguments, keywords)
            try:
                result = original(*arguments, **keywords)
                end(before)
                return result
            finally:
                self._running = None

        backward.__wrapped__ = original  # type: ignore[attr-defined]
        return backward

    def _wrapped_step(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def step(scaler: Any, *arguments: Any, **keywords: Any) -> Any:
            self._scale = scaler._get_scale_async()  # noqa: SLF001 - get_scale() waits
            try:
                return original(scaler, *arguments, **keywords)
            finally:
                self._scale = None

        step.__wrapped__ = original  # type: ignore[attr-defined]
        return step

    def _begin(
        self, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> list[tuple[OptimizerLoss, list[Gradient]]]:
        try:
            seen = _loss(arguments, keywords)
            if seen is None:
                return []
            self._search()
            self._number += 1
            self._running = Pass(self._number, *seen)
            if self._has_stepped:
                self._recent.clear()
                self._has_stepped = False
            if len(self._recent) < MOST_PASSES:
                self._recent.append(self._running)
            with torch.no_grad():
                return [(one, one.before()) for one in [*self._of.values()] if one.is_open]
        except Exception as error:  # noqa: BLE001 - a watch never ends a training
            self._give_up(error)
            return []

    def _end(self, before: list[tuple[OptimizerLoss, list[Gradient]]]) -> None:
        if self._running is None:
            return
        try:
            with torch.no_grad():
                for one, gradients in before:
                    one.after(self._running, gradients)
        except Exception as error:  # noqa: BLE001 - a watch never ends a training
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        say_to_log(f"losses are not checked any more: {type(error).__name__}: {error}")
        self.remove()
        self.is_open = False

    def _search(self) -> None:
        """Find the optimizers that exist at the first pass, before any has stepped."""
        if not self._has_searched:
            self._has_searched = True
            # type(), since isinstance would ask every proxy object of the program.
            for one in [one for one in gc.get_objects() if issubclass(type(one), Optimizer)]:
                if isinstance(getattr(one, "param_groups", None), list):
                    self.of(one)


def found_overflow(optimizer: Optimizer) -> torch.Tensor | None:
    """Return a tensor that is not zero if a gradient scaler made the optimizer skip this step."""
    found: torch.Tensor | None = getattr(optimizer, "found_inf", None)
    return found


def _gradient(parameter: Tensor) -> Gradient:
    gradient = parameter.grad
    if gradient is None:
        return None
    own = local(gradient)
    return own, own._version  # noqa: SLF001 - torch has no other name for it


def _loss(
    arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[Tensor, weakref.ref[Tensor]] | None:
    """Return a copy of the number that backward starts from, and its tensor; None if it starts from
    activations and not from numbers."""
    given = arguments[0] if arguments else keywords.get("tensors")
    tensors = [given] if isinstance(given, Tensor) else [*(given or ())]
    if not tensors or any(not isinstance(t, Tensor) or t.numel() != 1 for t in tensors):
        return None
    weights = arguments[1] if len(arguments) > 1 else keywords.get("grad_tensors")
    weights = [weights] if weights is None or isinstance(weights, Tensor) else [*weights]
    with torch.no_grad():
        # A copy: under CUDA graphs the next step writes its loss into the same memory.
        numbers = [one.detach().to(torch.float32, copy=True).reshape(()) for one in tensors]
        for place, weight in enumerate(weights[: len(numbers)]):
            if isinstance(weight, Tensor):
                numbers[place] = numbers[place] * weight.detach().reshape(()).float()
        total = numbers[0]
        for one in numbers[1:]:
            total = total + one.to(total.device)
    return total, weakref.ref(tensors[0])


def _values(steps: list[Step]) -> Iterator[float]:
    """Yield the losses of the steps that were not skipped, with two copies per device."""
    for device in {one.loss.device for one in steps}:
        own = [one for one in steps if one.loss.device == device]
        skips = torch.stack(
            [torch.zeros_like(one.loss) if one.found_inf is None else one.found_inf for one in own]
        )
        losses = torch.stack([one.loss for one in own])
        for value, skipped in zip(losses.tolist(), skips.tolist(), strict=True):
            if not skipped:
                yield value
