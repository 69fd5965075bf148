"""The loss of each step near one that is looked at, taken where its backward pass begins.

torch.autograd.backward, which Tensor.backward calls too, is wrapped; it runs outside of compiled
graphs. Outside of the window the wrapper costs one comparison.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import torch
from torch import Tensor

from sagemaker_byoc.training.library.watch.rules.base import TRAIN, Loss
from sagemaker_byoc.training.library.watch.uncompiled import uncompiled

WINDOW = 64
"""Steps whose mean is taken for the loss."""


class Losses:
    def __init__(self) -> None:
        self.is_open = True
        """Whether losses are kept: from the start, and near each step that is looked at."""
        self._kept: deque[Tensor] = deque(maxlen=WINDOW)
        self._unscaled: tuple[int, Tensor] | None = None
        self._undo: list[tuple[Any, str, Any]] = []

    def install(self) -> None:
        """Until `remove`."""
        self._wrap(torch.autograd, "backward", self._before_backward)
        scaler = torch.amp.grad_scaler.GradScaler
        self._wrap(scaler, "scale", self._before_scale)

    def remove(self) -> None:
        for owner, name, original in reversed(self._undo):
            setattr(owner, name, original)
        self._undo.clear()

    def take(self, step: int) -> Loss | None:
        """The mean of what was kept; waits for the device. None where no loss was seen."""
        if not self._kept:
            return None
        kept = [*self._kept]
        self._kept.clear()
        values = [
            value
            for device in {one.device for one in kept}
            for value in torch.stack([one for one in kept if one.device == device]).tolist()
        ]
        mean = sum(values) / len(values)
        if len(values) < 2 or not math.isfinite(mean):
            return Loss(step, mean)
        squares = sum((value - mean) ** 2 for value in values)
        return Loss(step, mean, TRAIN, error=math.sqrt(squares / (len(values) - 1) / len(values)))

    def _wrap(self, owner: Any, name: str, before: Any) -> None:
        original = getattr(owner, name)
        before = uncompiled(before)

        def wrapper(*arguments: Any, **keywords: Any) -> Any:
            if self.is_open:
                before(arguments, keywords)
            result = original(*arguments, **keywords)
            if name == "scale" and self.is_open and isinstance(result, Tensor):
                self._unscaled = (id(result), arguments[1].detach().clone())
            return result

        wrapper.__wrapped__ = original  # type: ignore[attr-defined]
        self._undo.append((owner, name, original))
        setattr(owner, name, wrapper)

    def _before_scale(self, _arguments: tuple[Any, ...], _keywords: dict[str, Any]) -> None:
        self._unscaled = None

    def _before_backward(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        given = arguments[0] if arguments else keywords.get("tensors")
        loss = given[0] if isinstance(given, list | tuple) and len(given) == 1 else given
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            return
        unscaled, self._unscaled = self._unscaled, None
        if unscaled is not None and unscaled[0] == id(loss):
            loss = unscaled[1]
        # A copy: under CUDA graphs the next step writes its loss into the same memory.
        self._kept.append(loss.detach().to(torch.float32, copy=True).reshape(()))
