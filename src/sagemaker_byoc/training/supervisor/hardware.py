"""What this container may use of the host, without starting a program to find out.

`nvidia-smi` takes a tenth of a second and more, and is not in every image.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

from sagemaker_byoc.contract.job import Hardware
from sagemaker_byoc.training.supervisor.cgroup import cpu_quota

NVIDIA_PROC = Path("/proc/driver/nvidia/gpus")
DEVICES = Path("/dev")


def find_hardware(environ: Mapping[str, str]) -> Hardware:
    return Hardware(cpus=count_cpus(), gpus=count_gpus(environ))


def count_cpus() -> int:
    """Whole CPUs: those this process may run on, or the quota, rounded up, if that is less."""
    usable = len(os.sched_getaffinity(0))
    quota = cpu_quota()
    return usable if quota is None else max(1, min(usable, math.ceil(quota)))


def count_gpus(
    environ: Mapping[str, str], proc: Path = NVIDIA_PROC, devices: Path = DEVICES
) -> int:
    """The GPUs that a CUDA program will see."""
    present = _present(proc, devices)
    for name in ("NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        present = _visible(environ.get(name), present)
    return present


def _present(proc: Path, devices: Path) -> int:
    """The fewer of what the driver lists and what has a device file: a container may lack either
    restriction, and can use what passed both."""
    listed = len(list(proc.iterdir())) if proc.is_dir() else 0
    files = sum(path.name[6:].isdecimal() for path in devices.glob("nvidia[0-9]*"))
    return min(listed, files) if listed and files else listed or files


def _visible(names: str | None, present: int) -> int:
    """How many of `present` GPUs a *_VISIBLE_DEVICES value leaves."""
    if names is None or names == "all" or not present:
        return present
    count = 0
    for name in names.split(","):
        # CUDA stops at the first name that names nothing.
        if name.strip() in {"", "-1", "none", "void", "NoDevFiles"}:
            break
        count += 1
    # One GPU may be cut into several MIG instances, each with a name of its own.
    return count if "MIG-" in names else min(count, present)
