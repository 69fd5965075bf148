"""The toolkit's own wheel, made of the package that runs: what a project's images install.

The same package gives the same bytes, so a project that is made again changes nothing in git.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import sagemaker_byoc
from sagemaker_byoc.contract.errors import MachineError
from sagemaker_byoc.contract.installation import DISTRIBUTION

_PACKAGE = "sagemaker_byoc"
_DATE = (2000, 1, 1, 0, 0, 0)
_SUFFIXES = frozenset({".pyc", ".pyo"})


def version() -> str:
    return _distribution().version


def file_name() -> str:
    return f"{_PACKAGE}-{_distribution().version}-py3-none-any.whl"


def write(folder: Path) -> Path:
    """The wheel in `folder`. Raises MachineError where the package was never installed."""
    distribution = _distribution()
    path = folder / file_name()
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
        if path.is_file() and path.suffix not in _SUFFIXES:
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
