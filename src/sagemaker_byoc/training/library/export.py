"""The trained model into /opt/ml/model, whole or not at all: weights, and a card that names them.

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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from sagemaker_byoc.contract.files import Json, write_json
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.training.library.ranks import global_rank

CARD = "card.json"
FORMAT = 1


def export_model(
    model: nn.Module,
    *,
    config: Mapping[str, Json] | None = None,
    example: tuple[Any, ...] | None = None,
    folder: Path | None = None,
) -> Path | None:
    """Write the model; the folder on rank 0, None on others. Every rank calls it: a collective.

    `config` is what the class needs to be made again. `example` inputs (positional) ask for
    model.pt2 too; not for sharded models.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights: dict[str, Any] = get_model_state_dict(model, options=options)
    if global_rank() != 0:
        return None
    into = folder or Tree.from_environ(os.environ).model
    into.mkdir(parents=True, exist_ok=True)
    plain = unwrapped(model)
    card = _card(plain, config or {})
    name, tied = _write_weights(into, weights)
    card["weights"], card["tied"] = name, dict(tied)
    if example is not None:
        card["program"] = _write_program(into, plain, example)
    # Last: whoever finds a card finds all that it names.
    write_json(into / CARD, card)
    return into


def unwrapped(model: nn.Module) -> nn.Module:
    """The user's own module inside DDP and torch.compile."""
    for name in ("module", "_orig_mod"):
        inner = getattr(model, name, None)
        is_wrapper = type(model).__module__.startswith(("torch.nn.parallel", "torch._dynamo"))
        if is_wrapper and isinstance(inner, nn.Module):
            return unwrapped(inner)
    return model


def _write_weights(folder: Path, weights: Mapping[str, Tensor]) -> tuple[str, dict[str, str]]:
    """The file's name, and which names are the same tensor as another that is in the file."""
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
    """safetensors refuses tensors that share memory; views of one are written as they read."""
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
    # The ending stays: torch.export.save warns about any other.
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(temporary)
        # safetensors makes files that only their owner can read; who serves may be another user.
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
    """`module:Class` as another program would import it: the script's name, not __main__."""
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
