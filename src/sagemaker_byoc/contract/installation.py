"""How this package was installed, and the command that adds an extra or a package to it.

Errors about a missing package name that command: `pip install 'sagemaker-byoc[local]'` finds
nothing for a package that came from a checkout into another environment.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from sagemaker_byoc.contract.files import as_object
from sagemaker_byoc.contract.machine import DRIVER
from sagemaker_byoc.contract.variables import INSTALLER

DISTRIBUTION = "sagemaker-byoc"
TORCH_CPU = "https://download.pytorch.org/whl/cpu"
"""PyPI's torch for Linux brings gigabytes of CUDA's libraries."""
DISTRIBUTIONS = {
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Modules that many programs import, whose distribution has another name."""


def add_extra(extra: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the command that installs what `extra` needs."""
    return f"{environ.get(INSTALLER) or installer()} {_words(extra)}"


def add_package(name: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the command that installs another package beside this one."""
    index = ""
    if name == "torch" and sys.platform == "linux" and not DRIVER.exists():
        index = f" --index-url {TORCH_CPU}"
    return f"{environ.get(INSTALLER) or installer()} {name}{index}"


def missing(extra: str) -> list[str]:
    """Return the distributions that `extra` asks for and that are not installed."""
    names = (re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in requirements(extra))
    return [name for name in names if not _is_installed(name)]


def requirements(extra: str) -> list[str]:
    """Return what `extra` asks for on this platform, without markers."""
    try:
        declared = metadata.distribution(DISTRIBUTION).requires or ()
    except metadata.PackageNotFoundError:  # run from its source folder
        return []
    found = []
    for text in declared:
        requirement, _, marker = text.partition(";")
        is_for_here = sys.platform != "win32" or "win32" not in marker
        if is_for_here and re.search(rf"""extra == ["']{extra}["']""", marker):
            found.append(requirement.strip())
    return found


def installer(interpreter: Path | None = None) -> str:
    """Return the command that installs packages beside `interpreter`, this one by default."""
    python = interpreter or Path(sys.executable)
    prefix = python.parent.parent
    if (prefix / "pipx_metadata.json").is_file():
        return f"pipx inject {shlex.quote(prefix.name)}"
    has_pip = any(prefix.glob("lib/python3*/*-packages/pip"))
    if (prefix / "uv-receipt.toml").is_file() or not has_pip:
        return f"uv pip install --python {shlex.quote(str(python))}"
    if shutil.which("pip") == str(python.parent / "pip"):
        return "pip install"
    return f"{shlex.quote(str(python))} -m pip install"


def package_of(module: str) -> str:
    """Return the distribution to install for a module that a program imports."""
    top = module.partition(".")[0]
    return DISTRIBUTIONS.get(top, top)


def hint_for_module(module: str, environ: Mapping[str, str]) -> str:
    """Return what to do about a module that a program or a handler can't import."""
    top, package = module.partition(".")[0], package_of(module)
    if environ.get(INSTALLER):
        what = f"{top} is not installed: {add_package(package, environ)}"
    else:
        what = f"the image lacks {top}: add {package} to requirements.txt, and build it again"
    return f"{what}; put your own modules beside the program"


def _words(extra: str) -> str:
    """Return the requirement that adds `extra`, quoted; it names what was installed."""
    record = _direct_url()
    url = str(record.get("url") or "")
    if isinstance(vcs := record.get("vcs_info"), dict):
        revision = vcs.get("requested_revision") or vcs.get("commit_id")
        # pip before 24 takes no URL without a host after a name.
        url = url.replace("file:///", "file://localhost/", 1)
        return shlex.quote(f"{DISTRIBUTION}[{extra}] @ {vcs.get('vcs')}+{url}@{revision}")
    if not url.startswith("file:"):
        return shlex.quote(f"{DISTRIBUTION}[{extra}]" + (f" @ {url}" if url else ""))
    path = Path(url2pathname(urlsplit(url).path))
    if not path.exists():
        return shlex.join(requirements(extra))
    is_editable = record.get("dir_info", {}).get("editable", False)
    return ("-e " if is_editable else "") + shlex.quote(f"{path}[{extra}]")


def _direct_url() -> dict[str, Any]:
    """Return pip's record of a folder, an archive or a repository; {} if it came by its name.

    The record is PEP 610's direct_url.json.
    """
    try:
        text = metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
        found = json.loads(text or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return {}
    return as_object(found)


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True
