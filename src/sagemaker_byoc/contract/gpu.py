"""NVIDIA GPUs: the drivers on SageMaker's hosts, and whether the GPUs of a host can be used.

The kernel's part of the driver is the host's, and an image can't bring another. A host image can be
named for an endpoint and for a batch transform job; for a training job it can't. Whether torch can
use the GPUs is read from text files only: importing torch takes seconds, and PID 1 must not open a
device.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.facts import Fact
from sagemaker_byoc.contract.machine import (
    CUDA_DEVICES,
    DEVICES,
    DRIVER,
    NVIDIA_PROC,
    hides_gpus,
    visible_gpus,
)
from sagemaker_byoc.contract.variables import ALLOW_CPU, INSTALLER

_CHECKED = "2026-11-23"
_DRIVERS_CHECKED = "2026-11-29"
_INSTANCE_TYPE = re.compile(r"ml\.([a-z0-9-]+)\.[a-z0-9-]+")
_GPU_FAMILY = re.compile(r"[gp]\d")


@dataclass(frozen=True, slots=True)
class HostImage:
    """One machine image of SageMaker: its NVIDIA driver's branch."""

    name: str
    driver: int


HOST_IMAGES = Fact(
    (
        HostImage("al2-ami-sagemaker-inference-gpu-2", 535),
        HostImage("al2-ami-sagemaker-inference-gpu-2-1", 535),
        HostImage("al2-ami-sagemaker-inference-gpu-3-1", 550),
        HostImage("al2023-ami-sagemaker-inference-gpu-4-1", 580),
        HostImage("al2-ami-sagemaker-batch-gpu-470", 470),
        HostImage("al2-ami-sagemaker-batch-gpu-535", 535),
    ),
    "machine images",
    "API reference: ProductionVariant.InferenceAmiVersion, TransformResources.TransformAmiVersion",
    _DRIVERS_CHECKED,
    "what CreateTrainingJob runs on is not published",
)
OLDEST_DRIVER = Fact(
    {11: (450, 80), 12: (525, 60), 13: (580, 65)},
    "CUDA major version to driver version",
    "NVIDIA: CUDA compatibility, minor version compatibility",
    _DRIVERS_CHECKED,
    "within a major version a newer toolkit runs on this driver, but for what needs PTX compiled",
)
DEFAULT_DRIVERS = Fact(
    {
        **dict.fromkeys(("p2", "p3", "g4dn", "g5", "p4d", "p4de"), 470),
        **dict.fromkeys(("p5", "g6"), 535),
        **dict.fromkeys(("p5e", "p5en"), 550),
    },
    "instance family to the driver's branch of an endpoint that names no host image",
    "SageMaker developer guide: inference-gpu-drivers",
    _DRIVERS_CHECKED,
    "470 for every family in a batch transform job; other families are not listed",
)
NEWEST_CUDA = Fact(
    {"p2": 11, "p3": 12, "p3dn": 12},
    "instance family to CUDA major version",
    "NVIDIA: CUDA toolkit release notes, 12.0 and 13.0, deprecated architectures",
    _DRIVERS_CHECKED,
    "later ones have no code for Kepler (p2) and Volta (p3); every other family runs all",
)
SERVERLESS_IMAGE = Fact(
    10 * 10**9,
    "bytes",
    "SageMaker developer guide: serverless-endpoints",
    _CHECKED,
    "compressed, as ECR counts",
)
CUDA_LABEL = Fact(
    "sagemaker-byoc.cuda",
    "label",
    "our choice: docs/decisions/0003",
    _DRIVERS_CHECKED,
    "such as 12.8",
)
DRIVER_LABEL = Fact(
    "sagemaker-byoc.driver",
    "label",
    "our choice: docs/decisions/0003",
    _DRIVERS_CHECKED,
    "the oldest NVIDIA driver that runs the image",
)
CAPABILITY_PORT = Fact(
    "com.amazonaws.sagemaker.capabilities.accept-bind-to-port",
    "label",
    "SageMaker developer guide: inference-pipeline-real-time",
    _CHECKED,
)
CAPABILITY_MODELS = Fact(
    "com.amazonaws.sagemaker.capabilities.multi-models",
    "label",
    "SageMaker developer guide: build-multi-model-build-container",
    _CHECKED,
)


def is_instance_type(text: str) -> bool:
    """Return whether `text` names a type of SageMaker's, and not a user's own machine."""
    return _INSTANCE_TYPE.fullmatch(text) is not None


def gpu_family(instance_type: str) -> str:
    """Return "g5" for ml.g5.xlarge, and "" for a type without an NVIDIA GPU."""
    found = _INSTANCE_TYPE.fullmatch(instance_type)
    return found[1] if found and _GPU_FAMILY.match(found[1]) else ""


def has_gpus(instance_type: str) -> bool:
    return bool(gpu_family(instance_type))


def is_enough(driver: int, cuda: int) -> bool:
    """Return whether a driver of branch `driver` runs a build for CUDA `cuda`."""
    oldest = OLDEST_DRIVER.value.get(cuda)
    return oldest is not None and driver >= oldest[0]


_ROOT = Path("/")
_OTHER_DRIVERS = ("dev/dxg", "dev/nvgpu", "dev/nvhost-gpu", "dev/nvmap")
"""Device files of WSL 2 and of Jetson, whose drivers have other versions."""
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
    wanted = OLDEST_DRIVER.value.get(torch.cuda[0])
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
    older = [major for major, oldest in OLDEST_DRIVER.value.items() if driver >= oldest]
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
