"""Which file of a folder is the model, decided without loading it. Standard library only."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sagemaker_byoc.contract import variables
from sagemaker_byoc.contract.folders import DESKTOP_FILES

SAFETENSORS = ".safetensors"
TORCH_SAVED = frozenset({".pt", ".pth", ".bin", ".ckpt"})
PICKLED = frozenset({".pkl", ".pickle", ".joblib"})
TORCHSCRIPT_PART = "constants.pkl"
"""Member of the archive of every TorchScript module, and of no state_dict."""
COMPILED_PART = "/data/aotinductor/"
SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}\.(?:safetensors|bin)")
"""Names of the shards of large models."""
LITTER = DESKTOP_FILES | {"__MACOSX"}
TRAINERS = frozenset(
    {"training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scheduler.bin"}
    | {"scaler.pt", "rng_state.pth"}
)
"""Files that transformers' Trainer and accelerate write beside the weights."""
CODE = "code"
"""The folder of the handlers beside the model."""
LFS = b"version https://git-lfs"


class ModelError(Exception):
    """No model can be loaded without the user's code; the message says what was found."""


class NoModelError(ModelError):
    """There is no file that could be a model."""


class Kind(StrEnum):
    """Ways to load a model, the preferred first: whole models, then weights, pickles last."""

    COMPILED = "AOTInductor package"
    EXPORTED = "torch.export program"
    SCRIPT = "TorchScript module"
    SAFE_WEIGHTS = "safetensors weights"
    WEIGHTS = "state_dict"
    PICKLE = "pickle"


WEIGHTS = frozenset({Kind.SAFE_WEIGHTS, Kind.WEIGHTS})


@dataclass(frozen=True, slots=True)
class Found:
    """The files of one model; several only if weights are split into shards."""

    kind: Kind
    paths: tuple[Path, ...]

    def __str__(self) -> str:
        return f"{self.kind} {names(self.paths)}"


def find(model_dir: Path, *, allow_pickle: bool = False) -> Found:
    """Return the one model at the top of `model_dir`."""
    files = files_of(model_dir)
    if not files:
        raise NoModelError(f"{model_dir} holds no file{_hint(model_dir)}")
    by_kind: dict[Kind, list[Path]] = {}
    for path in files:
        kind = _kind_of(path)
        if kind is not None:
            by_kind.setdefault(kind, []).append(path)
    best = next((kind for kind in Kind if kind in by_kind), None)
    if best is None:
        raise NoModelError(
            f"{model_dir} holds {names(files)}, none of which is a model that loads without "
            "model_fn"
        )
    paths = tuple(by_kind[best])
    if best is Kind.PICKLE and not allow_pickle:
        raise ModelError(
            f"{names(paths)} in {model_dir}: a pickle is a program, and is not loaded by default. "
            f"Define model_fn, or set {variables.ALLOW_PICKLE}=1 if you trust the archive"
        )
    if len(paths) > 1 and not _are_shards(paths):
        raise ModelError(
            f"{model_dir} holds several models, {names(paths)}: leave one, or define model_fn"
        )
    for path in paths:
        _check(path, best)
    return Found(best, paths)


def _hint(model_dir: Path) -> str:
    """Return a hint for a model folder without files."""
    folders = [path for path in model_dir.iterdir() if path.is_dir() and not is_litter(path)]
    inside = [path for path in folders if path.name != CODE]
    if len(inside) == 1:
        return (
            f", only the folder {inside[0].name}: pack what is in it, as in "
            f"tar -C {inside[0].name} -czf model.tar.gz ."
        )
    return ": is ModelDataUrl set, and are the files at the top of the archive?"


def _check(path: Path, kind: Kind) -> None:
    """Raise ModelError for a file that is not what its name says."""
    with path.open("rb") as file:
        start = file.read(len(LFS))
    if start == LFS:
        raise ModelError(
            f"{path.name} is a Git LFS pointer, not the file: run git lfs pull before you pack it"
        )
    if kind is Kind.EXPORTED and not zipfile.is_zipfile(path):
        raise ModelError(f"{path.name} is not a torch.export program, or is truncated")


def files_of(model_dir: Path) -> list[Path]:
    """Return the files at the top, sorted, without litter."""
    try:
        found = sorted(path for path in model_dir.iterdir() if not is_litter(path))
    except OSError as error:
        raise ModelError(f"{model_dir} can't be read: {error.strerror}") from error
    return [path for path in found if path.is_file()]


def is_litter(path: Path) -> bool:
    """Return whether a file manager, an editor or a transfer has left the file beside the model: on
    a Mac `._model.pt` holds the attributes of model.pt."""
    return path.name.startswith((".", "~$")) or path.name in LITTER


def _kind_of(path: Path) -> Kind | None:
    suffix = path.suffix.lower()
    if path.name in TRAINERS:
        return None
    if suffix == ".pt2":
        return Kind.COMPILED if _has(path, COMPILED_PART) else Kind.EXPORTED
    if suffix in TORCH_SAVED:
        return Kind.SCRIPT if _has(path, f"/{TORCHSCRIPT_PART}") else Kind.WEIGHTS
    if suffix == SAFETENSORS:
        return Kind.SAFE_WEIGHTS
    return Kind.PICKLE if suffix in PICKLED else None


def _has(path: Path, part: str) -> bool:
    """Return whether the name of a member of this zip file contains `part`."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(part in f"/{name}" for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _are_shards(paths: tuple[Path, ...]) -> bool:
    """Return whether the files are the shards of one model."""
    return len({SHARD.sub(r"\1", path.name) for path in paths}) == 1


def names(paths: tuple[Path, ...] | list[Path]) -> str:
    return ", ".join(path.name for path in paths[:10]) + (" …" if len(paths) > 10 else "")
