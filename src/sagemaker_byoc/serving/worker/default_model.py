"""Loading a model that came without model_fn: one file, which needs no code and no pickle."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

EXPORTED = ".pt2"
WEIGHTS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
TORCHSCRIPT_PART = "constants.pkl"
"""In the archive of every TorchScript module, and of no state_dict."""


class ModelError(Exception):
    """No model can be loaded without code of the user's; says what was found."""


def find(model_dir: Path) -> Path:
    """The one loadable file at the top of `model_dir`."""
    files = sorted(path for path in _listing(model_dir) if path.is_file())
    if not files:
        raise ModelError(
            f"{model_dir} holds no file: is ModelDataUrl set, and are the files at the top of the "
            "archive?"
        )
    for loadable in (_exported(files), _torchscript(files)):
        if len(loadable) > 1:
            raise ModelError(
                f"{model_dir} holds several models, {_names(loadable)}: leave one, or define "
                "model_fn"
            )
        if loadable:
            return loadable[0]
    weights = [path for path in files if path.suffix in WEIGHTS]
    if weights:
        raise ModelError(
            f"{model_dir} has weights ({_names(weights)}) but no model_fn: define model_fn, or "
            "save the whole model with torch.export.save or torch.jit.save"
        )
    raise ModelError(
        f"{model_dir} holds {_names(files)}, none of which is a model that loads without model_fn"
    )


def _listing(model_dir: Path) -> list[Path]:
    try:
        return list(model_dir.iterdir())
    except OSError as error:
        raise ModelError(f"{model_dir} can't be read: {error.strerror}") from error


def _exported(files: list[Path]) -> list[Path]:
    return [path for path in files if path.suffix == EXPORTED]


def _torchscript(files: list[Path]) -> list[Path]:
    return [path for path in files if path.suffix in {".pt", ".pth"} and _is_torchscript(path)]


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.rpartition("/")[2] == TORCHSCRIPT_PART for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _names(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths[:10]) + (" …" if len(paths) > 10 else "")


def load(model_dir: Path) -> Any:
    """Ready to be called, on the device that this worker has."""
    path = find(model_dir)
    import torch  # noqa: PLC0415 - two seconds that models without torch do not pay

    on = device()
    if path.suffix == EXPORTED:
        exported = torch.export.load(path)
        return exported.module().to(on)
    return torch.jit.load(path, map_location=on).eval()  # type: ignore[no-untyped-call]


def device() -> str:
    """The slot's GPU, which is the only one it sees, or the CPU."""
    import torch  # noqa: PLC0415 - as above

    return "cuda" if torch.cuda.is_available() else "cpu"
