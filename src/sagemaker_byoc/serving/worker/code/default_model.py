"""Loading a model that came without model_fn: whole from a file, or weights into a user's class.

Nothing is unpickled unless the operator has allowed it. (A .pt2 and a TorchScript module are
programs all the same, which run in torch; so is the code/ beside them.)
"""

from __future__ import annotations

import inspect
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, get_ident
from typing import Any

from sagemaker_byoc.contract import variables
from sagemaker_byoc.contract.installation import hint_for_module
from sagemaker_byoc.serving.worker.code.model_files import WEIGHTS, Found, Kind, ModelError, find

_EVENT = "pickle.find_class"
_guarded: set[int] = set()
"""Threads that load a model."""
_lock = Lock()
_is_installed = False


class PickleError(Exception):
    """Loading the file would have run code that it contains."""


@contextmanager
def forbidden() -> Iterator[None]:
    """Forbid unpickling in this thread: raise PickleError if Python's unpickler looks up a name."""
    _install()
    _guarded.add(get_ident())
    try:
        yield
    finally:
        _guarded.discard(get_ident())


def _install() -> None:
    """Install the audit hook once: it cannot be removed."""
    global _is_installed  # noqa: PLW0603 - the interpreter's own state
    with _lock:
        if not _is_installed:
            sys.addaudithook(_refuse)
            _is_installed = True


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event == _EVENT and get_ident() in _guarded:
        raise PickleError(
            f"it holds a pickle that refers to {arguments[0]}.{arguments[1]}, and pickles are "
            f"programs; set {variables.ALLOW_PICKLE}=1 if you trust the archive"
        )


def hint_of(error: Exception) -> str:
    """Return a hint for a name that an allowed pickle refers to and that does not exist."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{hint_for_module(error.name, os.environ)}, or in code/ beside the model"
    if isinstance(error, ImportError):
        return "The package that defines it is damaged, or has another version here"
    if is_about_main(error):
        return (
            "The class was defined in the script that saved the model. Move it to a file of its "
            "own, which that script imports, save the model again, and put that file into code/ "
            "beside the model"
        )
    return "The package that defines it has another version here than where the model was saved"


def is_about_main(error: Exception) -> bool:
    """Return whether a pickle refers to what the script that wrote it had defined."""
    return "__main__" in str(error) and "get attribute" in str(error)


INNER = ("state_dict", "model_state_dict", "model")
"""Keys under which checkpoints hold the weights, beside an optimizer's state."""
PREFIXES = ("module.", "_orig_mod.")
"""Prefixes of weights saved through DistributedDataParallel or torch.compile."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that takes data; `device` is where its data must be."""

    model: Any
    device: str
    source: str
    """How and from which file it was loaded, for the log."""


def load(
    model_dir: Path, *, make_model: Callable[[], Any] | None = None, allow_pickle: bool = False
) -> Loaded:
    """Load the model; raise ModelError with a hint if that is impossible."""
    found = find(model_dir, allow_pickle=allow_pickle)
    may_be_whole = allow_pickle and found.kind is Kind.WEIGHTS
    if found.kind in WEIGHTS and make_model is None and not may_be_whole:
        raise ModelError(
            f"{model_dir} has weights ({found}) but no model_fn and no make_model: in inference.py "
            "define make_model, which returns the module they belong to (make_model = MyModel), or "
            "save the whole model with torch.export.save"
        )
    if make_model is not None and found.kind in WEIGHTS:
        return _filled(found, make_model)
    try:
        with nullcontext() if allow_pickle else forbidden(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript, which is in use
            warnings.simplefilter("ignore", FutureWarning)
            # A warning from torch 2.10's own reader of a .pt2.
            warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)
            return _LOADERS[found.kind](found)
    except PickleError as error:
        raise ModelError(f"{found} can't be loaded: {error}") from None
    except (AttributeError, ImportError) as error:
        if not allow_pickle:
            raise
        raise ModelError(f"{found} can't be loaded: {error}. {hint_of(error)}") from None


def device() -> str:
    """Return the slot's GPU, which is the only one it sees, or the CPU."""
    import torch  # noqa: PLC0415 - two seconds that models without torch do not pay

    return "cuda" if torch.cuda.is_available() else "cpu"


# ── whole models ──


def _compiled(found: Found) -> Loaded:
    """Load machine code for one kind of device, which its metadata names."""
    import torch  # noqa: PLC0415 - as above

    aoti_load_package: Any = torch._inductor.aoti_load_package  # noqa: SLF001 - its public name
    model = aoti_load_package(str(found.paths[0]))
    built_for = str(model.get_metadata().get("AOTI_DEVICE_KEY", "cpu"))
    if built_for == "cuda" and device() != "cuda":
        raise ModelError(f"{found} is built for {built_for}, and this container has no GPU")
    return Loaded(model, built_for, str(found))


def _exported(found: Found) -> Loaded:
    import torch  # noqa: PLC0415 - as above

    on = device()
    return Loaded(torch.export.load(found.paths[0]).module().to(on), on, str(found))


def _script(found: Found) -> Loaded:
    import torch  # noqa: PLC0415 - as above

    on = device()
    module: Any = torch.jit.load(found.paths[0], map_location=on)  # type: ignore[no-untyped-call]
    return Loaded(module.eval(), on, str(found))


def _pickled(found: Found) -> Loaded:
    """Load a pickle, if the operator allows it; an object that cannot be called has its predict
    called."""
    path = found.paths[0]
    with path.open("rb") as file:
        model = _joblib(path) if path.suffix == ".joblib" else pickle.load(file)  # noqa: S301
    return Loaded(_callable(model, path), "cpu", str(found))


def _joblib(path: Path) -> Any:
    try:
        import joblib  # noqa: PLC0415 - only where the user has it
    except ImportError:
        raise ModelError(f"{path.name} needs the package joblib: add it to your image") from None
    return joblib.load(path)


def _whole(found: Found) -> Loaded:
    """Load what torch.save(model) wrote, which is a pickle."""
    import torch  # noqa: PLC0415 - as above

    on, path = device(), found.paths[0]
    model = torch.load(path, map_location=on, weights_only=False)
    if isinstance(model, Mapping):
        raise ModelError(f"{path.name} holds weights: define make_model in inference.py")
    ready = model.eval() if isinstance(model, torch.nn.Module) else _callable(model, path)
    return Loaded(ready, on, f"{Kind.PICKLE} {path.name}")


def _callable(model: Any, path: Path) -> Any:
    if callable(model) or callable(getattr(model, "predict", None)):
        return model
    raise ModelError(f"{path.name} holds a {type(model).__name__}, which is not a model")


_LOADERS: Mapping[Kind, Callable[[Found], Loaded]] = {
    Kind.COMPILED: _compiled,
    Kind.EXPORTED: _exported,
    Kind.SCRIPT: _script,
    Kind.WEIGHTS: _whole,
    Kind.PICKLE: _pickled,
}


# ── weights into a module of the user's ──


def _filled(found: Found, make_model: Callable[[], Any]) -> Loaded:
    import torch  # noqa: PLC0415 - as above

    try:
        with suppress(ValueError):  # something built in, which has no signature
            inspect.signature(make_model).bind()
    except TypeError as error:
        raise ModelError(
            f"make_model is called without arguments: {error}. Give a function that fills them in"
        ) from None
    model = make_model()
    if not isinstance(model, torch.nn.Module):
        raise ModelError(f"make_model returned {type(model).__name__}; return a torch.nn.Module")
    weights = _read_safetensors(found) if found.kind is Kind.SAFE_WEIGHTS else _read_saved(found)
    for prefix in PREFIXES:
        weights = _without(weights, prefix)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(
            f"{found} does not fit make_model's {type(model).__name__}: {error}"
        ) from None
    on = device()
    return Loaded(model.eval().to(on), on, f"{found} in {type(model).__name__}")


def _without(weights: dict[str, Any], prefix: str) -> dict[str, Any]:
    if not weights or not all(name.startswith(prefix) for name in weights):
        return weights
    return {name.removeprefix(prefix): value for name, value in weights.items()}


def _read_safetensors(found: Found) -> dict[str, Any]:
    from safetensors import SafetensorError  # noqa: PLC0415 - as torch above
    from safetensors.torch import load_file  # noqa: PLC0415

    weights: dict[str, Any] = {}
    for path in found.paths:
        try:
            weights |= load_file(path)
        except SafetensorError as error:
            raise ModelError(f"{path.name} is not safetensors: {error}") from None
    return weights


def _read_saved(found: Found) -> dict[str, Any]:
    """Read what torch.save wrote of a state_dict, or of a checkpoint with one inside."""
    weights: dict[str, Any] = {}
    for path in found.paths:
        weights |= _read_one(path)
    return weights


def _read_one(path: Path) -> dict[str, Any]:
    import torch  # noqa: PLC0415 - as above

    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path.name} holds more than weights, which would have to be unpickled "
            f"({_reason(error)}). "
            "Save model.state_dict() instead, or the whole model with torch.export.save; "
            f"{variables.ALLOW_PICKLE}=1 loads it without make_model, "
            "if you trust the archive"
        ) from None
    except (RuntimeError, EOFError, ValueError) as error:
        raise ModelError(f"{path.name} can't be read: {error}") from None
    if isinstance(saved, Mapping):
        saved = next((saved[key] for key in INNER if isinstance(saved.get(key), Mapping)), saved)
    if not isinstance(saved, Mapping) or not all(isinstance(name, str) for name in saved):
        raise ModelError(f"{path.name} holds a {type(saved).__name__}, and no weights by name")
    return dict(saved)


def _reason(error: Exception) -> str:
    """Return the one line of torch's advice that is about this file."""
    lines = str(error).strip().splitlines()
    return next((line.strip() for line in lines if "Unpickler error" in line), lines[-1])
