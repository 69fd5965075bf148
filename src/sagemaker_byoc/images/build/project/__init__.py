"""The project that `byoc init` writes: the files below template/, and the toolkit's wheel."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import sagemaker_byoc
from sagemaker_byoc.contract import installation
from sagemaker_byoc.contract.errors import MachineError, RequestError
from sagemaker_byoc.contract.installation import DISTRIBUTION

_TEMPLATE = Path(__file__).parent / "template"
_SUFFIX = ".template"
_HIDDEN = "dot-"
_PACKAGE = "sagemaker_byoc"
_DATE = (2000, 1, 1, 0, 0, 0)
_COMPILED = frozenset({".pyc", ".pyo"})
TOOLKIT = "toolkit"
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LONGEST = 40
TORCH, TORCH_CUDA_12 = "torch==2.13.*", "torch==2.10.*"
"""Versions that the toolkit was tried with; the second is PyPI's last for CUDA 12."""


def write(folder: Path, name: str) -> list[Path]:
    """Write the project; return its files, relative to `folder`.

    Raise RequestError, writing nothing, if one of them exists.
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise RequestError(
            f"{name!r} can't be the name of a project, its images and its jobs",
            hint="Give --name: lower case letters, digits and single hyphens, up to "
            f"{_LONGEST} characters",
        )
    texts = {path: _filled(text, name) for path, text in _templates()}
    wanted = sorted([*texts, Path(TOOLKIT, wheel_name())])
    _require_free(folder, wanted)
    try:
        for path, text in texts.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with (folder / path).open("x", encoding="utf-8") as file:
                file.write(text)
        (folder / TOOLKIT).mkdir(exist_ok=True)
        write_wheel(folder / TOOLKIT)
    except OSError as error:
        raise RequestError(
            f"{error.filename} can't be written: {error.strerror}", hint="Name another folder"
        ) from error
    return wanted


def name_of(folder: Path) -> str:
    """Return a valid name made from the folder's."""
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
        "version": version(),
        "torch": TORCH,
        "cuda12": TORCH_CUDA_12,
        "train": " ".join(f'"{name}"' for name in installation.requirements("train")),
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


# ── the toolkit's wheel ──


def version() -> str:
    return _distribution().version


def wheel_name() -> str:
    return f"{_PACKAGE}-{_distribution().version}-py3-none-any.whl"


def write_wheel(folder: Path) -> Path:
    """Write the wheel of the package that runs; the same package gives the same bytes.

    So a project that is made again changes nothing in git. Raise MachineError if the package was
    never installed.
    """
    distribution = _distribution()
    path = folder / wheel_name()
    info = f"{_PACKAGE}-{distribution.version}.dist-info"
    contents = dict(_package()) | {
        f"{info}/METADATA": _text(distribution, "METADATA"),
        f"{info}/entry_points.txt": _text(distribution, "entry_points.txt"),
        f"{info}/WHEEL": (
            f"Wheel-Version: 1.0\nGenerator: {DISTRIBUTION} ({distribution.version})\n"
            "Root-Is-Purelib: true\nTag: py3-none-any\n"
        ).encode(),
    }
    contents |= {f"{info}/licenses/{name}": data for name, data in _licenses(distribution)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (*sorted(contents.items()), (f"{info}/RECORD", _record(contents, info))):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)
    return path


def _distribution() -> metadata.Distribution:
    try:
        return metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError as error:
        raise MachineError(
            f"the package {DISTRIBUTION} runs without having been installed",
            hint="Install it: pip install of its checkout or of its wheel",
        ) from error


def _package() -> Iterator[tuple[str, bytes]]:
    root = Path(sagemaker_byoc.__file__).parent
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.suffix not in _COMPILED:
            yield f"{_PACKAGE}/{path.relative_to(root).as_posix()}", path.read_bytes()


def _text(distribution: metadata.Distribution, name: str) -> bytes:
    text = distribution.read_text(name)
    if text is None:
        raise MachineError(
            f"the installation of {DISTRIBUTION} has no {name}", hint="Install it again"
        )
    return text.encode()


def _licenses(distribution: metadata.Distribution) -> Iterator[tuple[str, bytes]]:
    for file in distribution.files or ():
        if file.parent.name == "licenses":
            yield file.name, file.read_binary()


def _record(contents: dict[str, bytes], info: str) -> bytes:
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    for name, data in sorted(contents.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        writer.writerow((name, f"sha256={digest}", len(data)))
    writer.writerow((f"{info}/RECORD", "", ""))
    return rows.getvalue().encode()
