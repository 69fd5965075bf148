"""The trained model in /opt/ml/model, written whole or not at all: weights and a card.

For user scripts; works alone. Without pickle: safetensors, or a state_dict that torch.load reads
with weights_only; and, on request, a torch.export program that is served without any code.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import inspect
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.optim.swa_utils import AveragedModel

from sagemaker_byoc.contract.files import Json, write_json
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.training.library.outputs import make_folder
from sagemaker_byoc.training.library.ranks import global_rank

CARD = "card.json"
FORMAT = 1
WRAPPED = ("module", "_orig_mod")
"""The names that torch's wrappers give to the wrapped module."""
WRAPPING = ("torch.nn.parallel", "torch._dynamo", "torch.optim.swa_utils")
"""The modules of torch's wrappers."""
KEPT_BY_TORCH = (nn.DataParallel, AveragedModel)
"""Wrappers whose names get_model_state_dict keeps."""


def export_model(
    model: nn.Module,
    *,
    config: Mapping[str, Json] | None = None,
    example: tuple[Any, ...] | None = None,
    folder: Path | None = None,
) -> Path | None:
    """Write the model. Return the folder on rank 0, None on others. A collective of all ranks.

    `config` is what the class needs to be constructed. With `example`, positional inputs, model.pt2
    is written too; not for sharded models.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights: dict[str, Any] = _without_wrappers(model, get_model_state_dict(model, options=options))
    if global_rank() != 0:
        return None
    into = folder or Tree.from_environ(os.environ).model
    make_folder(into)
    plain = unwrapped(model)
    card = _card(plain, config or {})
    name, tied = _write_weights(into, weights)
    card["weights"], card["tied"] = name, dict(tied)
    if example is not None:
        card["program"] = _write_program(into, plain, example)
    # Last: a reader that finds the card must find all files that it names.
    write_json(into / CARD, card)
    return into


def _without_wrappers(model: nn.Module, weights: dict[str, Any]) -> dict[str, Any]:
    """Return tensors by their names without DataParallel and AveragedModel, at any depth; torch has
    removed those of all other wrappers, and a user's module may be called `module` too."""
    if isinstance(model, AveragedModel):
        weights.pop("n_averaged", None)  # not the model's own
    names = zip(_names(model, through=True), _names(model, through=False), strict=True)
    plain = {long: short for short, long in names}
    return {plain.get(name, name): tensor for name, tensor in weights.items()}


def _names(module: nn.Module, prefix: str = "", *, through: bool) -> Iterator[str]:
    """Yield the names of parameters and buffers without those of wrappers; with `through` also
    without those that torch keeps."""
    wrapper = _wrapped_name(module)
    for name in (*module._parameters, *module._buffers):  # noqa: SLF001 - in their order
        yield prefix + name
    for name, child in module._modules.items():  # noqa: SLF001
        if child is not None:
            is_left_out = name == wrapper and (through or not isinstance(module, KEPT_BY_TORCH))
            yield from _names(child, prefix if is_left_out else f"{prefix}{name}.", through=through)


def _wrapped_name(module: nn.Module) -> str:
    """Return the name of the user's module in a wrapper; empty if `module` is not a wrapper."""
    if not type(module).__module__.startswith(WRAPPING):
        return ""
    # Not getattr, which a compiled module forwards to the user's module.
    children = module._modules  # noqa: SLF001
    return next((name for name in WRAPPED if children.get(name) is not None), "")


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the user's module inside DDP, DataParallel, AveragedModel and torch.compile."""
    name = _wrapped_name(model)
    return unwrapped(model.get_submodule(name)) if name else model


def _write_weights(folder: Path, weights: Mapping[str, Tensor]) -> tuple[str, dict[str, str]]:
    """Write the weights. Return the file's name, and for tied names the one that is in the file."""
    if importlib.util.find_spec("safetensors"):
        kept, tied = _without_tied(weights)
        name = "model.safetensors"
        _whole_or_not(folder / name, lambda path: _save_safetensors(kept, path))
        return name, tied
    name = "model.pt"
    _whole_or_not(folder / name, lambda path: torch.save(dict(weights), path))
    return name, {}


def _save_safetensors(weights: Mapping[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file  # noqa: PLC0415 - only where it is installed

    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)


def _without_tied(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Split off tied tensors, and copy overlapping ones: safetensors refuses shared memory."""
    kept: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    seen: dict[tuple[Any, ...], str] = {}
    storages: set[int] = set()
    for name, tensor in weights.items():
        storage = tensor.untyped_storage().data_ptr()
        same = (storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and same in seen:
            tied[name] = seen[same]
            continue
        seen[same] = name
        kept[name] = tensor.clone() if storage in storages else tensor
        storages.add(storage)
    return kept, tied


def _write_program(folder: Path, model: nn.Module, example: tuple[Any, ...]) -> str:
    was_training = model.training
    model.eval()
    try:
        program = torch.export.export(model, example)
    finally:
        model.train(was_training)
    name = "model.pt2"
    _whole_or_not(folder / name, lambda path: torch.export.save(program, path))
    return name


def _whole_or_not(path: Path, write: Any) -> None:
    # The same suffix: torch.export.save warns about any other.
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(temporary)
        # safetensors makes files that only their owner can read, and another user may serve.
        temporary.chmod(0o644)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _card(model: nn.Module, config: Mapping[str, Json]) -> dict[str, Json]:
    source = _source(type(model))
    return {
        "format": FORMAT,
        "class": class_path(type(model)),
        "config": dict(config),
        "code_sha256": hashlib.sha256(source.read_bytes()).hexdigest() if source else None,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, **_ours()},
    }


def class_path(kind: type) -> str:
    """Return `module:Class` as another program imports it: the script's name, not __main__."""
    module = kind.__module__
    if module == "__main__":
        main = sys.modules["__main__"]
        spec = getattr(main, "__spec__", None)
        module = spec.name if spec else Path(getattr(main, "__file__", None) or "__main__").stem
    return f"{module}:{kind.__qualname__}"


def _source(kind: type) -> Path | None:
    try:
        file = inspect.getsourcefile(kind)
    except (TypeError, OSError):
        return None
    path = Path(file) if file else None
    return path if path and path.is_file() else None


def _ours() -> dict[str, Json]:
    name = "sagemaker-byoc"
    try:
        return {name: importlib.metadata.version(name)}
    except importlib.metadata.PackageNotFoundError:
        return {}
