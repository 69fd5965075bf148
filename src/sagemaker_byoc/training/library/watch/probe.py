"""A few numbers per tensor at one step: gradients, weights, and the inputs of activation layers.

They leave a device together, in one copy, which is the only wait for it. Hooks are put on
activation layers before the forward pass that is checked, and removed after it. Under
torch.compile a module's hooks that come after its compilation are not called: then the activation
rules see nothing, and the page says so.

A parameter's name is the optimizer's, if it got named_parameters(); else the model's, which is
searched once among all live objects; else its position and shape.
"""

from __future__ import annotations

import functools
import gc
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import Module
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from sagemaker_byoc.training.library.watch.rules.base import (
    BIAS_GRADIENTS,
    GRADIENTS,
    WEIGHTS,
    Activation,
    Floats,
    Stats,
)
from sagemaker_byoc.training.library.watch.rules.tensors import (
    RELU,
    SIGMOID,
    TANH,
    SaturatedActivation,
)

PLAIN = frozenset({Tensor, torch.nn.Parameter})
WRAPPERS = re.compile(r"\b(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


class Parameter:
    """A parameter, with what never changes about it."""

    __slots__ = ("gradient_name", "is_matrix", "name", "tensor")

    def __init__(self, name: str, tensor: Tensor) -> None:
        self.name = name
        self.gradient_name = f"gradient/{name}"
        self.tensor = tensor
        self.is_matrix = tensor.dim() > 1
        """Whether it is a weight, and not a bias or a scale."""


def named_parameters(optimizer: Optimizer, roots: Iterable[Module]) -> list[Parameter]:
    """Return all parameters, in the optimizer's order."""
    known = {
        id(tensor): WRAPPERS.sub("", name)
        for root in roots
        for name, tensor in root.named_parameters()
    }
    found: list[Parameter] = []
    for group in optimizer.param_groups:
        names = group.get("param_names") or [None] * len(group["params"])
        for own, tensor in zip(names, group["params"], strict=False):
            place = f"parameter_{len(found)}_{'x'.join(map(str, tensor.shape))}"
            name = WRAPPERS.sub("", own) if own else known.get(id(tensor), place)
            found.append(Parameter(name, tensor))
    return found


def find_roots(optimizer: Optimizer) -> list[Module]:
    """Return the outermost live modules with a parameter of the optimizer; some tens of ms."""
    wanted = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
    # type(), since isinstance would evaluate every proxy object of the program.
    modules = [one for one in gc.get_objects() if issubclass(type(one), Module)]
    inner = {id(child) for module in modules for child in module.children()}
    return [
        module
        for module in modules
        if id(module) not in inner and any(id(p) in wanted for p in module.parameters())
    ]


def local(tensor: Tensor) -> Tensor:
    """Return this rank's part of a sharded tensor, the values of a sparse one."""
    if type(tensor) in PLAIN:
        return tensor._values() if tensor.is_sparse else tensor  # noqa: SLF001 - coalescing would copy
    to_local = getattr(tensor, "to_local", None)
    found: Tensor = to_local() if callable(to_local) else tensor
    return found


def is_watched(tensor: Tensor) -> bool:
    """Return whether a tensor has floating-point values, and is in memory."""
    return (
        tensor.numel() > 0
        and tensor.is_floating_point()
        and tensor.device.type != "meta"
        and tensor.layout in {torch.strided, torch.sparse_coo}
    )


def by_device(tensors: Iterable[Tensor]) -> Iterator[tuple[torch.device, list[int], list[Tensor]]]:
    """Yield each device with its tensors and their indexes in `tensors`."""
    groups: dict[torch.device, tuple[list[int], list[Tensor]]] = {}
    for place, tensor in enumerate(tensors):
        places, members = groups.setdefault(tensor.device, ([], []))
        places.append(place)
        members.append(tensor)
    for device, (places, members) in groups.items():
        yield device, places, members


VALUES = 1024
"""Elements of a tensor for the rules that need values."""
UPDATE_VALUES = 256
"""Elements of a weight whose change in one step is measured."""


@dataclass(frozen=True, slots=True)
class Wants:
    """What the rules need beyond the norms."""

    values: bool = False
    zeros: bool = False
    updates: bool = False


def look(parameters: Sequence[Parameter], wants: Wants, scale: Tensor | None) -> list[Stats]:
    """Measure gradients, then weights; `scale` is a factor that the gradients still have."""
    with_gradient = [
        one
        for one in parameters
        # A shard of a small tensor may be empty.
        if one.tensor.grad is not None and local(one.tensor.grad).numel()
    ]
    named = [
        (
            one.gradient_name,
            GRADIENTS if one.is_matrix else BIAS_GRADIENTS,
            local(one.tensor.grad),  # type: ignore[arg-type]  # not None: see above
        )
        for one in with_gradient
    ]
    named += [(one.name, WEIGHTS, local(one.tensor)) for one in with_gradient if one.is_matrix]
    divisor = float(scale.item()) if scale is not None else 1.0
    tensors = [tensor for _, _, tensor in named]
    measured = _measure(named, wants)
    values = _values(tensors, VALUES) if wants.values else [None] * len(tensors)
    return [
        _stats(one, numbers, some, divisor)
        for one, numbers, some in zip(named, measured, values, strict=True)
    ]


def _stats(
    named: tuple[str, str, Tensor],
    numbers: Sequence[float],
    values: Floats | None,
    divisor: float,
) -> Stats:
    name, kind, tensor = named
    total = numbers[0]
    count = tensor.numel()
    unscaled = 1.0 if kind is WEIGHTS else divisor
    return Stats(
        name,
        kind,
        total / count / unscaled,
        None if kind is not WEIGHTS else numbers[1],
        total != total,  # noqa: PLR0124 - NaN, and this is asked hundreds of times
        total == math.inf,
        100.0 * (total == 0) if len(numbers) < 3 else 100 * (1 - numbers[2] / count),
        None if values is None else values / unscaled,
    )


def _measure(named: Sequence[tuple[str, str, Tensor]], wants: Wants) -> list[list[float]]:
    """Return for each the sum of its absolute values, the largest one for weights (else 0), and
    the count of non-zeros if needed. The sum is infinite or NaN if any value is."""
    measured: list[list[float]] = [[] for _ in named]
    for _, places, members in by_device([tensor for _, _, tensor in named]):
        weights = [
            tensor
            for place, tensor in zip(places, members, strict=True)
            if named[place][1] is WEIGHTS
        ]
        parts = [*torch._foreach_norm(members, 1, torch.float32)]  # noqa: SLF001 - clip_grad_norm_ uses it too
        if weights:
            parts += torch._foreach_norm(weights, math.inf, torch.float32)  # noqa: SLF001
        if wants.zeros:
            parts += [torch.count_nonzero(one).float() for one in members]
        numbers = torch.stack(parts).tolist()
        largest = iter(numbers[len(members) : len(members) + len(weights)])
        nonzero = numbers[len(members) + len(weights) :]
        for order, place in enumerate(places):
            row = [numbers[order], next(largest) if named[place][1] is WEIGHTS else 0.0]
            measured[place] = [*row, nonzero[order]] if nonzero else row
    return measured


def spread(tensor: Tensor, most: int) -> Tensor:
    """Return at most `most` elements at equal distances, from all columns and not only a few."""
    count = tensor.numel()
    apart = _apart(count, tensor.shape[-1] if tensor.dim() else 1, most)
    if tensor.is_contiguous():
        return tensor.as_strided((-(-count // apart),), (apart,))
    return tensor.reshape(-1)[::apart]


@functools.cache
def _apart(count: int, columns: int, most: int) -> int:
    apart = max(1, -(-count // most))
    while apart > 1 and math.gcd(apart, columns) != 1:
        apart += 1
    return apart


def _values(tensors: Sequence[Tensor], most: int) -> list[Floats | None]:
    """Return some elements of each, at equal distances, with one copy per device."""
    found: list[Floats | None] = [None] * len(tensors)
    for _, places, members in by_device(tensors):
        joined = _Joined(members, most)
        for place, part in zip(places, joined.parts(joined.numbers), strict=True):
            found[place] = part
    return found


class _Joined:
    """Some elements of many tensors of a device, as one vector on it."""

    def __init__(self, tensors: Sequence[Tensor], most: int) -> None:
        parts = [spread(one, most) for one in tensors]
        self._vector = torch.cat(
            [one if one.dtype is torch.float32 else one.float() for one in parts]
        )
        self._ends = np.cumsum([0, *(part.numel() for part in parts)])

    @property
    def numbers(self) -> Floats:
        """The vector on the host; waits for the device."""
        return self._vector.cpu().numpy().astype(np.float64)

    def parts(self, numbers: Floats) -> list[Floats]:
        return [numbers[start:end] for start, end in pairwise(self._ends.tolist())]

    def means(self, numbers: Floats) -> list[float]:
        """Return the mean of the absolute values of each."""
        sums = np.add.reduceat(np.abs(numbers), self._ends[:-1])
        found: list[float] = (sums / np.diff(self._ends)).tolist()
        return found


class Updates:
    """The relative changes of weights in one step, measured on a few elements of each."""

    def __init__(self, epsilon: float) -> None:
        self._epsilon = epsilon
        self._before: list[tuple[list[Parameter], _Joined]] = []

    def before(self, parameters: Sequence[Parameter]) -> None:
        """Keep the weights, after the step before the one that is checked."""
        weights = [one for one in parameters if one.is_matrix and one.tensor.grad is not None]
        self._before = [
            ([weights[place] for place in places], _Joined(members, UPDATE_VALUES))
            for _, places, members in by_device([local(one.tensor) for one in weights])
        ]

    def ratios(self) -> dict[str, float]:
        """Return mean absolute change over mean absolute weight; not for weights that were zero."""
        ratios: dict[str, float] = {}
        groups, self._before = self._before, []
        for weights, before in groups:
            old = before.numbers
            now = _Joined([local(one.tensor) for one in weights], UPDATE_VALUES).numbers
            if now.shape != old.shape:  # a sharded tensor may have moved
                continue
            with np.errstate(invalid="ignore", over="ignore"):
                pairs = zip(before.means(now - old), before.means(old), strict=True)
                for weight, (change, size) in zip(weights, pairs, strict=True):
                    if size and math.isfinite(change):
                        ratios[weight.name] = change / (size + self._epsilon)
        return ratios


KINDS: dict[type[nn.Module], str] = {
    nn.ReLU: RELU,
    nn.ReLU6: RELU,
    nn.Tanh: TANH,
    nn.Sigmoid: SIGMOID,
}


class Layers:
    """The activation layers, hooked for one forward pass."""

    def __init__(self, ranges: SaturatedActivation, inactivity: float) -> None:
        self._ranges = ranges
        self._inactivity = inactivity / 100
        self._handles: list[RemovableHandle] = []
        self._seen: dict[tuple[str, str], Tensor] = {}

    def prepare(self, roots: Iterable[nn.Module]) -> None:
        """Add the hooks, before the forward pass that is checked."""
        self.remove()
        self._seen.clear()
        for root in roots:
            for name, module in root.named_modules():
                kind = KINDS.get(type(module))
                if kind:
                    hook = self._hook(WRAPPERS.sub("", name) or kind, kind)
                    self._handles.append(module.register_forward_hook(hook))

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def take(self) -> list[Activation]:
        """Return what the hooks saw since `prepare`; wait for the device."""
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
