"""Which file of a folder is the model, judged without loading it. Standard library only."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sagemaker_byoc.contract import serving

SAFETENSORS = ".safetensors"
TORCH_SAVED = frozenset({".pt", ".pth", ".bin", ".ckpt"})
PICKLED = frozenset({".pkl", ".pickle", ".joblib"})
TORCHSCRIPT_PART = "constants.pkl"
"""In the archive of every TorchScript module, and of no state_dict."""
COMPILED_PART = "/data/aotinductor/"
SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}\.safetensors")
"""How large models are cut into files."""

LITTER = frozenset({"__MACOSX", ".DS_Store", ".AppleDouble", "Thumbs.db", "desktop.ini"})


class ModelError(Exception):
    """No model can be loaded without code of the user's; says what was found."""


class Kind(StrEnum):
    """Ways to load, the preferred first: whole models, then weights, pickles last."""

    COMPILED = "AOTInductor package"
    EXPORTED = "torch.export program"
    SCRIPT = "TorchScript module"
    SAFE_WEIGHTS = "safetensors weights"
    WEIGHTS = "state_dict"
    PICKLE = "pickle"


WEIGHTS = frozenset({Kind.SAFE_WEIGHTS, Kind.WEIGHTS})


@dataclass(frozen=True, slots=True)
class Found:
    """The files of one model; several only where weights are cut into shards."""

    kind: Kind
    paths: tuple[Path, ...]

    def __str__(self) -> str:
        return f"{self.kind} {names(self.paths)}"


def find(model_dir: Path, *, allow_pickle: bool = False) -> Found:
    """The one model at the top of `model_dir`."""
    files = files_of(model_dir)
    if not files:
        raise ModelError(
            f"{model_dir} holds no file: is ModelDataUrl set, and are the files at the top of the "
            "archive?"
        )
    by_kind: dict[Kind, list[Path]] = {}
    for path in files:
        kind = _kind_of(path)
        if kind is not None:
            by_kind.setdefault(kind, []).append(path)
    best = next((kind for kind in Kind if kind in by_kind), None)
    if best is None:
        raise ModelError(
            f"{model_dir} holds {names(files)}, none of which is a model that loads without "
            "model_fn"
        )
    paths = tuple(by_kind[best])
    if best is Kind.PICKLE and not allow_pickle:
        raise ModelError(
            f"{names(paths)} in {model_dir}: a pickle is a program, and is not loaded by default. "
            f"Define model_fn, or set {serving.ALLOW_PICKLE.value}=1 if you trust the archive"
        )
    if len(paths) > 1 and not _are_shards(paths):
        raise ModelError(
            f"{model_dir} holds several models, {names(paths)}: leave one, or define model_fn"
        )
    return Found(best, paths)


def files_of(model_dir: Path) -> list[Path]:
    """The files at the top, sorted, without what file managers put beside them."""
    try:
        found = sorted(path for path in model_dir.iterdir() if not is_litter(path))
    except OSError as error:
        raise ModelError(f"{model_dir} can't be read: {error.strerror}") from error
    return [path for path in found if path.is_file()]


def is_litter(path: Path) -> bool:
    """Whether an archive that was made on a Mac, or in a shared folder, has it beside the model:
    `._model.pt` holds the attributes of model.pt."""
    return path.name.startswith("._") or path.name in LITTER


def _kind_of(path: Path) -> Kind | None:
    if path.suffix == ".pt2":
        return Kind.COMPILED if _has(path, COMPILED_PART) else Kind.EXPORTED
    if path.suffix in TORCH_SAVED:
        return Kind.SCRIPT if _has(path, f"/{TORCHSCRIPT_PART}") else Kind.WEIGHTS
    if path.suffix == SAFETENSORS:
        return Kind.SAFE_WEIGHTS
    return Kind.PICKLE if path.suffix in PICKLED else None


def _has(path: Path, part: str) -> bool:
    """Whether the name of a member of this zip file contains `part`."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(part in f"/{name}" for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _are_shards(paths: tuple[Path, ...]) -> bool:
    return len({SHARD.sub(r"\1", path.name) for path in paths}) == 1


def names(paths: tuple[Path, ...] | list[Path]) -> str:
    return ", ".join(path.name for path in paths[:10]) + (" …" if len(paths) > 10 else "")
