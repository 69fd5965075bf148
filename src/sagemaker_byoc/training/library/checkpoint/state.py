"""What a checkpoint holds: model and optimizer over all ranks, and each rank's own small state."""

from __future__ import annotations

import io
import random
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)
from torch.distributed.checkpoint.stateful import Stateful
from torch.optim import Optimizer

from sagemaker_byoc.training.library.checkpoint.folders import CheckpointError


@dataclass(kw_only=True, slots=True)
class TrainingState:
    """The live objects of a training program."""

    model: nn.Module
    optimizers: tuple[Optimizer, ...] = ()
    parts: Mapping[str, Stateful] = field(default_factory=dict)
    """By name: scheduler, data, and what else has state_dict and load_state_dict."""
    user: dict[str, Any] = field(default_factory=dict)

    def shared(self) -> dict[str, Any]:
        """References to all tensors, by names that hold at any world size; a collective."""
        if not self.optimizers:
            return {"model": get_model_state_dict(self.model)}
        model, optimizer = get_state_dict(self.model, self.optimizers)
        return {"model": model, "optimizer": optimizer}

    def load_shared(self, state: Mapping[str, Any]) -> None:
        """Put what `shared` gave back, after its tensors were filled; a collective."""
        if not self.optimizers:
            set_model_state_dict(self.model, state["model"])
        else:
            set_state_dict(
                self.model,
                self.optimizers,
                model_state_dict=state["model"],
                optim_state_dict=state["optimizer"],
            )

    def own(self) -> bytes:
        """This rank's part: serialised at once, since the next step changes it."""
        state = {
            "random": random_state(),
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "user": self.user,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        return buffer.getvalue()

    def load_own(self, data: bytes, *, is_same_rank: bool) -> None:
        """Random state only where the bytes come from this very rank."""
        state = loaded(data)
        for name, part in self.parts.items():
            if name in state["parts"]:
                part.load_state_dict(state["parts"][name])
        self.user.clear()
        self.user.update(state["user"])
        if is_same_rank:
            set_random_state(state["random"])


def loaded(data: bytes) -> Any:
    """What `own` wrote; CheckpointError where it holds more than plain data and tensors."""
    try:
        return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception as error:
        first_line = str(error).strip().splitlines()[:1]
        raise CheckpointError(
            "the state of scheduler, data, others or user holds more than tensors and plain "
            f"values, which can't be read back without running code from the file: {first_line}"
        ) from error


def as_tuple(optimizer: Optimizer | Iterable[Optimizer] | None) -> tuple[Optimizer, ...]:
    if optimizer is None:
        return ()
    return (optimizer,) if isinstance(optimizer, Optimizer) else tuple(optimizer)


def random_state() -> dict[str, Any]:
    """Return that of Python, numpy if imported, torch, and this rank's GPU if it is in use."""
    state: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if "numpy" in sys.modules:
        name, keys, *rest = sys.modules["numpy"].random.get_state()
        state["numpy"] = (name, [int(key) for key in keys], *rest)
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if "numpy" in state and "numpy" in sys.modules:
        sys.modules["numpy"].random.set_state(state["numpy"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
