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
from sagemaker_byoc.contract.machine import (
    CUDA_DEVICES,
    DEVICES,
    DRIVER,
    NVIDIA_PROC,
    hides_gpus,
    visible_gpus,
)
from sagemaker_byoc.contract.variables import ALLOW_CPU, INSTALLER

_ROOT = Path("/")
_OTHER_DRIVERS = ("dev/dxg", "dev/nvgpu", "dev/nvhost-gpu", "dev/nvmap")
"""Device files of WSL 2 and of Jetson, whose drivers have versions of their own."""
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
    """Why GPUs stay unused; `is_fatal` if the container was given GPUs that torch can't use."""

    what: str
    hint: str
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
        raise ContractError(where="GPU", what=trouble.what, hint=f"{trouble.hint}, {_ON_CPU}")
    return f"warning: GPU: {trouble.what}" + ("" if allowed else f". {trouble.hint}")


def find_trouble(
    environ: Mapping[str, str],
    instance_type: str = "",
    *,
    root: Path = _ROOT,
    folders: Iterable[str] = sys.path,
) -> Trouble | None:
    """Return None if there is nothing to use, or if the environment hides the GPUs on purpose.

    `instance_type` is that of the job; hosting does not tell a container its own. Every container
    on a host with a driver sees the driver's version, also one that asked for no GPU: a container
    was given GPUs if it has their device files, or if its instance type has GPUs.
    """
    is_paid = has_gpus(instance_type)
    has_none = is_instance_type(instance_type) and not is_paid
    is_other = any((root / name).exists() for name in _OTHER_DRIVERS)
    if has_none or is_other or hides_gpus(environ):
        return None
    gpus = len(visible_gpus(environ, _in(root, NVIDIA_PROC), _in(root, DEVICES)))
    driver = driver_version(root)
    torch = find_torch(folders) if gpus or driver or is_paid else None
    if torch is None:
        return None
    who = instance_type if is_paid else "this machine"
    if torch.cuda is None:
        return _cpu_build(who, torch, environ) if gpus or is_paid else None
    wanted = accelerators.OLDEST_DRIVER.value.get(torch.cuda[0])
    if driver and wanted and driver < wanted and (gpus or is_paid):
        return _old_driver(who, torch, (driver, wanted), is_fatal=not _has_compat(environ, root))
    if gpus or not (driver or is_paid):
        return None
    return _none_visible(who, environ.get(CUDA_DEVICES))


def _in(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _cpu_build(who: str, torch: Torch, environ: Mapping[str, str]) -> Trouble:
    """Not fatal: the program may use the GPUs with another library than torch."""
    if INSTALLER in environ:
        hint = "Install torch's build for CUDA"
    else:
        hint = "Build the image with TORCH=cuda12, or use an instance type without GPUs"
    return Trouble(
        f"{who} has NVIDIA GPUs, and torch {torch.version} was built without CUDA",
        hint,
        is_fatal=False,
    )


def _none_visible(who: str, listed: str | None) -> Trouble:
    """Not fatal: a container that needs no GPU may run on a host that has some."""
    ignored = f", with {CUDA_DEVICES}={listed}" if listed is not None else ""
    return Trouble(
        f"{who} has NVIDIA GPUs, and none is visible in this container{ignored}",
        "If the program is to use one, start it with --gpus all (Docker) or a limit of "
        "nvidia.com/gpu (Kubernetes)",
        is_fatal=False,
    )


def _old_driver(
    who: str, torch: Torch, versions: tuple[Version, Version], *, is_fatal: bool
) -> Trouble:
    assert torch.cuda is not None
    driver, wanted = versions
    older = [
        major for major, oldest in accelerators.OLDEST_DRIVER.value.items() if driver >= oldest
    ]
    build = f"a build of torch for CUDA {max(older)}" if older else "a CPU build of torch"
    return Trouble(
        f"the NVIDIA driver of {who} is {shown(driver)}, and CUDA {shown(torch.cuda)} of torch "
        f"{torch.version} needs {shown(wanted)} or newer",
        f"Use a host with a newer driver (InferenceAmiVersion for an endpoint), {build}",
        is_fatal=is_fatal,
    )


def _has_compat(environ: Mapping[str, str], root: Path) -> bool:
    """Return whether there is a newer libcuda: NVIDIA's forward compatibility package.

    It replaces the part of the driver that programs load, on the GPUs of data centers.
    """
    folders = [*(root / "usr/local").glob("cuda*/compat")]
    listed = environ.get("LD_LIBRARY_PATH", "").split(":")
    folders += [root / folder.lstrip("/") for folder in listed if "compat" in folder]
    return any(any(folder.glob("libcuda.so*")) for folder in folders)


def shown(version: Version) -> str:
    return f"{version[0]}.{version[1]:02}" if version[0] > 99 else f"{version[0]}.{version[1]}"


def driver_version(root: Path = _ROOT) -> Version | None:
    """Return the version of the kernel's NVIDIA driver, which every container sees."""
    try:
        found = re.search(_DRIVER_VERSION, _in(root, DRIVER).read_text())
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
