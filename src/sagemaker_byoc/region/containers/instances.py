"""What an instance type has: GPUs, CPUs and memory.

Source: EC2's and SageMaker's pages of instance types (2026-11, from memory where a size is derived:
sizes of one family are multiples of its smallest). An unknown type has no limits.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from sagemaker_byoc.contract.machine import (
    NVIDIA_PROC,
    hides_gpus,
    usable_cpus,
    usable_memory,
    visible_gpus,
)
from sagemaker_byoc.region.engines.container import Limits

_GIB = 2**30
_SIZES = {"large": 2, "xlarge": 4}
"""vCPUs; `Nxlarge` has 4 N."""
_GIB_PER_CPU = {"c": 2, "m": 4, "r": 8}
_BURSTABLE = {"medium": (2, 4), "large": (2, 8), "xlarge": (4, 16), "2xlarge": (8, 32)}

_ONE_TO_EIGHT = {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8}
_TWO_TO_EIGHT = {"12xlarge": 2, "24xlarge": 4, "48xlarge": 8}
_GPUS: dict[str, dict[str, int]] = {
    "g4dn": {"12xlarge": 4, "metal": 8},
    "g5": _ONE_TO_EIGHT,
    "g6": _ONE_TO_EIGHT,
    "g6e": _ONE_TO_EIGHT,
    "g7": _TWO_TO_EIGHT,
    "g7e": _TWO_TO_EIGHT,
    "p2": {"8xlarge": 8, "16xlarge": 16},
    "p3": {"8xlarge": 4, "16xlarge": 8},
    "p3dn": {"24xlarge": 8},
    "p4d": {"24xlarge": 8},
    "p4de": {"24xlarge": 8},
    "p5": {"48xlarge": 8},
    "p5e": {"48xlarge": 8},
    "p5en": {"48xlarge": 8},
    "p6-b200": {"48xlarge": 8},
    "p6-b300": {"48xlarge": 8},
    "p6e-gb200": {"36xlarge": 4},
}
"""By family, the sizes that have more than one GPU."""


@dataclass(frozen=True, slots=True)
class Instance:
    gpus: int | None
    """None for a type that is not AWS's (`local`, `local_gpu`): it has all of this machine's."""
    limits: Limits | None


def gpus_here() -> int:
    """Return the number of NVIDIA GPUs that this process may use, by its variables.

    /proc is read rather than device files: a region in a container may lack those that its engine
    has.
    """
    if hides_gpus(os.environ):
        return 0
    return len(visible_gpus(os.environ)) or len([*NVIDIA_PROC.glob("*")])


def describe(instance_type: str) -> Instance:
    """Return what `ml.FAMILY.SIZE` has; any other name stands for this machine without limits."""
    found = re.fullmatch(r"ml\.([a-z0-9-]+)\.([a-z0-9-]+)", instance_type)
    if found is None:
        return Instance(None, None)
    family, size = found.groups()
    if family in _GPUS:
        return Instance(_GPUS[family].get(size, 1), None)
    return Instance(0, _limits(family, size))


def on_this_machine(instance_type: str, gpus: int) -> Instance:
    """Return what `describe` does, limited to this machine's `gpus`, CPUs and memory."""
    instance = describe(instance_type)
    limits = instance.limits
    if limits is not None:
        cpus = usable_cpus()
        memory = usable_memory()
        limits = Limits(min(limits.cpus, cpus), min(limits.memory, memory))
    return Instance(None if instance.gpus is None else min(instance.gpus, gpus), limits)


def _limits(family: str, size: str) -> Limits | None:
    if family in {"t2", "t3"}:
        cpus, memory = _BURSTABLE.get(size, (0, 0))
        return Limits(cpus, memory * _GIB) if cpus else None
    many = re.fullmatch(r"([0-9]+)xlarge", size)
    cpus = 4 * int(many[1]) if many else _SIZES.get(size, 0)
    ratio = _GIB_PER_CPU.get(family[:1])
    return Limits(cpus, cpus * ratio * _GIB) if cpus and ratio else None
