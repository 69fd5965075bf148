"""The project that `byoc init` writes: the files below template/, and the toolkit's wheel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sagemaker_byoc.contract import installation
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.images.build import wheel

_TEMPLATE = Path(__file__).parent / "template"
_SUFFIX = ".template"
_HIDDEN = "dot-"
TOOLKIT = "toolkit"
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LONGEST = 40
TORCH, TORCH_CUDA_12 = "torch==2.13.*", "torch==2.10.*"
"""Versions that the toolkit was tried with; the second is PyPI's last for CUDA 12."""


def write(folder: Path, name: str) -> list[Path]:
    """The files, relative to `folder`. Raises RequestError where one of them is there already:
    nothing is written then."""
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise RequestError(
            f"{name!r} can't be the name of a project, its images and its jobs",
            hint="Give --name: lower case letters, digits and single hyphens, up to "
            f"{_LONGEST} characters",
        )
    texts = {path: _filled(text, name) for path, text in _templates()}
    wanted = sorted([*texts, Path(TOOLKIT, wheel.file_name())])
    _require_free(folder, wanted)
    try:
        for path, text in texts.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with (folder / path).open("x", encoding="utf-8") as file:
                file.write(text)
        (folder / TOOLKIT).mkdir(exist_ok=True)
        wheel.write(folder / TOOLKIT)
    except OSError as error:
        raise RequestError(
            f"{error.filename} can't be written: {error.strerror}", hint="Name another folder"
        ) from error
    return wanted


def name_of(folder: Path) -> str:
    """A legal name made from the folder's."""
    stem = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")
    return stem[:_LONGEST].strip("-") or "program"


def _templates() -> Iterator[tuple[Path, str]]:
    for file in sorted(_TEMPLATE.rglob(f"*{_SUFFIX}")):
        name = file.name.removesuffix(_SUFFIX)
        if name.startswith(_HIDDEN):
            name = f".{name.removeprefix(_HIDDEN)}"
        yield file.parent.relative_to(_TEMPLATE) / name, file.read_text(encoding="utf-8")


def _filled(text: str, name: str) -> str:
    values = {
        "name": name,
        "version": wheel.version(),
        "torch": TORCH,
        "cuda12": TORCH_CUDA_12,
        "train": " ".join(f'"{wish}"' for wish in installation.requirements("train")),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], text)


def _require_free(folder: Path, wanted: list[Path]) -> None:
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"{folder} is a file", hint="Name a folder")
    there = [str(path) for path in wanted if (folder / path).exists()]
    if there:
        raise RequestError(
            f"{folder} has {', '.join(there)} already, and nothing is overwritten",
            hint="Name an empty or new folder, and take from it what you want",
        )
