"""Whether the GPUs of a host can be used: its NVIDIA driver against the CUDA of the image's torch.

Only text files are read: importing torch takes seconds, and PID 1 must not open a device.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract import accelerators
from sagemaker_byoc.contract.accelerators import has_gpus, is_instance_type
from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.machine import hides_gpus, visible_gpus

ALLOW_CPU = "BYOC_ALLOW_CPU"
DRIVER = "proc/driver/nvidia/version"

_ROOT = Path("/")
# Compiled when they are needed: this module is imported on the way to a program's first line.
_DRIVER_VERSION = r"Kernel Module.*?\s(\d{3,})\.(\d+)"
_TORCH_VERSION = r"(?m)^__version__ = '([^']*)'"
_TORCH_CUDA = r"(?m)^cuda\b[^=\n]*= '(\d+)\.(\d+)'"
_ON_CPU = f"or set {ALLOW_CPU}=1 to run on the CPU"

Version = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Torch:
    version: str
    cuda: Version | None
    """None for a build without CUDA."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why GPUs stay unused; `is_fatal` if the program could only have wanted to use them."""

    what: str
    cure: str
    is_fatal: bool


def check_gpus(
    environ: Mapping[str, str],
    instance_type: str = "",
    *,
    allowed: bool,
    root: Path = _ROOT,
    folders: Iterable[str] = sys.path,
) -> str:
    """Return a warning for the log, or "". Raise ContractError unless the CPU is `allowed`."""
    trouble = find_trouble(environ, instance_type, root=root, folders=folders)
    if trouble is None:
        return ""
    if trouble.is_fatal and not allowed:
        raise ContractError(where="GPU", what=trouble.what, cure=f"{trouble.cure}, {_ON_CPU}")
    return f"warning: GPU: {trouble.what}" + ("" if allowed else f". {trouble.cure}")


def find_trouble(
    environ: Mapping[str, str],
    instance_type: str = "",
    *,
    root: Path = _ROOT,
    folders: Iterable[str] = sys.path,
) -> Trouble | None:
    """`instance_type` is that of the job; hosting does not tell a container its own.

    None if there is nothing to use, or if the environment hides the GPUs on purpose.
    """
    is_paid = has_gpus(instance_type)
    if hides_gpus(environ) or (is_instance_type(instance_type) and not is_paid):
        return None
    gpus = len(visible_gpus(environ, root / "proc/driver/nvidia/gpus", root / "dev"))
    driver = driver_version(root)
    torch = find_torch(folders) if gpus or driver or is_paid else None
    if torch is None:
        return None
    who = instance_type if is_paid else "this machine"
    if torch.cuda is None:
        return _cpu_build(who, torch) if gpus or is_paid else None
    wanted = accelerators.OLDEST_DRIVER.value.get(torch.cuda[0])
    if driver and wanted and driver < wanted:
        return _old_driver(who, driver, wanted, torch, root)
    if gpus or not (driver or is_paid):
        return None
    return Trouble(
        f"{who} has NVIDIA GPUs, and none is visible in this container (no /dev/nvidia0)",
        "Start it with --gpus all (Docker) or a limit of nvidia.com/gpu (Kubernetes)",
        is_fatal=True,
    )


def _cpu_build(who: str, torch: Torch) -> Trouble:
    """Not fatal: the program may use the GPUs with another library than torch."""
    return Trouble(
        f"{who} has NVIDIA GPUs, and torch {torch.version} was built without CUDA",
        "Build the image with TORCH=cuda12, or use an instance type without GPUs",
        is_fatal=False,
    )


def _old_driver(who: str, driver: Version, wanted: Version, torch: Torch, root: Path) -> Trouble:
    assert torch.cuda is not None
    older = [
        major for major, oldest in accelerators.OLDEST_DRIVER.value.items() if driver >= oldest
    ]
    build = f"a build of torch for CUDA {max(older)}" if older else "a CPU build of torch"
    # NVIDIA's forward compatibility package replaces the part of the driver that programs load.
    has_compat = any((root / "usr/local").glob("cuda*/compat/libcuda.so*"))
    return Trouble(
        f"the NVIDIA driver of {who} is {shown(driver)}, and CUDA {shown(torch.cuda)} of torch "
        f"{torch.version} needs {shown(wanted)} or newer",
        f"Use a host with a newer driver (InferenceAmiVersion for an endpoint), {build}",
        is_fatal=not has_compat,
    )


def shown(version: Version) -> str:
    return f"{version[0]}.{version[1]:02}" if version[0] > 99 else f"{version[0]}.{version[1]}"


def driver_version(root: Path = _ROOT) -> Version | None:
    """Return the version of the kernel's NVIDIA driver, which every container sees."""
    try:
        found = re.search(_DRIVER_VERSION, (root / DRIVER).read_text())
    except (OSError, UnicodeDecodeError):
        return None
    return (int(found[1]), int(found[2])) if found else None


def find_torch(folders: Iterable[str] = sys.path) -> Torch | None:
    """Return the torch that would be imported, from torch/version.py as text."""
    for folder in folders:
        try:
            text = (Path(folder) / "torch" / "version.py").read_text()
        except (OSError, UnicodeDecodeError):
            continue
        version, cuda = re.search(_TORCH_VERSION, text), re.search(_TORCH_CUDA, text)
        return Torch(version[1] if version else "", (int(cuda[1]), int(cuda[2])) if cuda else None)
    return None
