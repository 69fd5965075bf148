"""The parameters of an optimizer, under the names that a person knows them by.

A name comes from the optimizer, where it was given named_parameters(); else from the model, which
is looked for once among all live objects; else it is the parameter's place and shape.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

PLAIN = frozenset({Tensor, torch.nn.Parameter})
WRAPPERS = re.compile(r"\b(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


class Parameter:
    """A parameter that can be looked at; what never changes about it is found out once."""

    __slots__ = ("gradient_name", "is_matrix", "name", "tensor")

    def __init__(self, name: str, tensor: Tensor) -> None:
        self.name = name
        self.gradient_name = f"gradient/{name}"
        self.tensor = tensor
        self.is_matrix = tensor.dim() > 1
        """A weight; else a bias or a scale."""


def named_parameters(optimizer: Optimizer, roots: Iterable[Module]) -> list[Parameter]:
    """All of them, in the optimizer's order."""
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
    """The outermost live modules that own a parameter of the optimizer; some tens of ms."""
    wanted = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
    # type(), since isinstance would ask every proxy object of the program what it stands for.
    modules = [one for one in gc.get_objects() if issubclass(type(one), Module)]
    inner = {id(child) for module in modules for child in module.children()}
    return [
        module
        for module in modules
        if id(module) not in inner and any(id(p) in wanted for p in module.parameters())
    ]


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor, the values of a sparse one."""
    if type(tensor) in PLAIN:
        return tensor._values() if tensor.is_sparse else tensor  # noqa: SLF001 - coalescing would copy
    to_local = getattr(tensor, "to_local", None)
    found: Tensor = to_local() if callable(to_local) else tensor
    return found


def is_watched(tensor: Tensor) -> bool:
    """Real floating point, and really there."""
    return (
        tensor.numel() > 0
        and tensor.is_floating_point()
        and tensor.device.type != "meta"
        and tensor.layout in {torch.strided, torch.sparse_coo}
    )


def by_device(tensors: Iterable[Tensor]) -> Iterator[tuple[torch.device, list[int], list[Tensor]]]:
    """Each device with its tensors and their places in `tensors`."""
    groups: dict[torch.device, tuple[list[int], list[Tensor]]] = {}
    for place, tensor in enumerate(tensors):
        places, members = groups.setdefault(tensor.device, ([], []))
        places.append(place)
        members.append(tensor)
    for device, (places, members) in groups.items():
        yield device, places, members
