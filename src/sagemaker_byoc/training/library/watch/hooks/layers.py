"""Activation layers, looked at for one forward pass: hooks are put in before it, and taken out.

Under torch.compile a module's hooks that come after its compilation are not called: then the
activation rules see nothing, and the page says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sagemaker_byoc.training.library.watch.hooks.parameters import WRAPPERS
from sagemaker_byoc.training.library.watch.rules.activations import (
    RELU,
    SIGMOID,
    TANH,
    SaturatedActivation,
)
from sagemaker_byoc.training.library.watch.rules.base import Activation

KINDS: dict[type[nn.Module], str] = {
    nn.ReLU: RELU,
    nn.ReLU6: RELU,
    nn.Tanh: TANH,
    nn.Sigmoid: SIGMOID,
}


class Layers:
    def __init__(self, ranges: SaturatedActivation, inactivity: float) -> None:
        self._ranges = ranges
        self._inactivity = inactivity / 100
        self._handles: list[RemovableHandle] = []
        self._seen: dict[tuple[str, str], Tensor] = {}
        self.found = 0

    def prepare(self, roots: Iterable[nn.Module]) -> None:
        """Before the forward pass that is to be looked at."""
        self.remove()
        self._seen.clear()
        for root in roots:
            for name, module in root.named_modules():
                kind = KINDS.get(type(module))
                if kind:
                    hook = self._hook(WRAPPERS.sub("", name) or kind, kind)
                    self._handles.append(module.register_forward_hook(hook))
        self.found = max(self.found, len(self._handles))

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def take(self) -> list[Activation]:
        """What was seen since `prepare`; waits for the device."""
        self.remove()
        seen, self._seen = self._seen, {}
        return [
            Activation(layer, kind, active=100 * active, input_variance=variance)
            for (layer, kind), numbers in seen.items()
            for active, variance in [numbers.tolist()]
        ]

    def _hook(
        self, name: str, kind: str
    ) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        low, high = (0.0, float("inf")) if kind == RELU else self._ranges.range_of(kind)

        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
            with torch.no_grad():
                given = inputs[0].detach().float()
                if given.numel() < 2:
                    return
                in_range = ((given > low) & (given < high)).float()
                # Units are the channels of images, and the last dimension of everything else.
                unit = 1 if given.dim() == 4 else given.dim() - 1
                others = [axis for axis in range(given.dim()) if axis != unit]
                shares = in_range.mean(dim=others) if others else in_range
                awake = (shares >= self._inactivity).float().mean()
                self._seen[name, kind] = torch.stack((awake, given.var()))

        return hook
