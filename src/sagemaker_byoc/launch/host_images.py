"""The host image of an endpoint's instances: one whose NVIDIA driver runs the image's CUDA."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sagemaker_byoc.contract.accelerators import (
    CUDA_LABEL,
    DEFAULT_DRIVERS,
    HOST_IMAGES,
    NEWEST_CUDA,
    HostImage,
    gpu_family,
    is_enough,
)
from sagemaker_byoc.launch.errors import SettingsError

KEY = "ami-version"
_LATER_FAMILIES = 535
"""The oldest driver of a family that AWS's page does not list: it has all with an older one."""
_BY_DEFAULT = f"the driver is what {{}} has by default; {KEY} names another"
_UNREAD = (
    "the image's CUDA can't be read (ecr:BatchGetImage, ecr:GetDownloadUrlForLayer): " + _BY_DEFAULT
)
_UNSTATED = f"the image doesn't state its CUDA (label {CUDA_LABEL.value}): " + _BY_DEFAULT


@dataclass(frozen=True, slots=True)
class Choice:
    name: str
    """The API's InferenceAmiVersion; empty to leave it out."""
    note: str
    """A sentence for the plan; may be empty."""


def cuda_of(config: Mapping[str, Any]) -> str:
    """Return the CUDA version that an image's configuration states, "" if it states none.

    Ours has a label; NVIDIA's bases, and what is built on them, have a variable.
    """
    own = config.get("config")
    labels = own.get("Labels") if isinstance(own, dict) else None
    variables = own.get("Env") if isinstance(own, dict) else None
    stated = [str(labels.get(CUDA_LABEL.value, ""))] if isinstance(labels, dict) else []
    for variable in variables if isinstance(variables, list) else ():
        name, _, value = str(variable).partition("=")
        if name == "CUDA_VERSION":
            stated.append(value)
    found = (re.match(r"\d{1,3}\.\d{1,3}(?!\d)", text) for text in stated)
    return next((each[0] for each in found if each), "")


def choose(where: str, chosen: str, cuda: str | None, instance_type: str) -> Choice:
    """`chosen` is what the user named, and wins. Raise SettingsError if no host can run it.

    `cuda` is empty for an image that states none, and None for one that can't be read.
    """
    family = gpu_family(instance_type)
    if not cuda or not family:
        note = _UNREAD if cuda is None else _UNSTATED
        return Choice(chosen, "" if chosen or not family else note.format(instance_type))
    major = int(cuda.partition(".")[0])
    newest = NEWEST_CUDA.value.get(family, major)
    if major > newest:
        raise SettingsError(
            f"{where}: image was built for CUDA {cuda}, which has no code for the GPUs of "
            f"{instance_type}",
            hint=f"Use a build for CUDA {newest}, or another instance type",
        )
    images = [host for host in HOST_IMAGES.value if "inference" in host.name]
    able = [host for host in images if is_enough(host.driver, major)]
    if chosen:
        return Choice(chosen, _warning(chosen, images, able, cuda))
    if not able:
        raise SettingsError(
            f"{where}: image was built for CUDA {cuda}, and no host image of SageMaker's for "
            f"{instance_type} has a driver for it",
            hint=f"Build it with --build-arg TORCH=cuda12, or name a newer host image: {KEY}",
        )
    default = DEFAULT_DRIVERS.value.get(family)
    if is_enough(default or _LATER_FAMILIES, major):
        return Choice("", "")
    # The newest driver for the build's own CUDA; a later major version if there is no other.
    closest = [host for host in able if not is_enough(host.driver, major + 1)] or able
    best = max(closest, key=lambda host: host.driver)
    has = f"driver {default}" if default else "an older driver"
    return Choice(
        best.name,
        f"InferenceAmiVersion {best.name}, with driver {best.driver}: the image was built for CUDA "
        f"{cuda}, and {instance_type} has {has} by default",
    )


def _warning(chosen: str, images: list[HostImage], able: list[HostImage], cuda: str) -> str:
    for host in images:
        if host.name == chosen and host not in able:
            return (
                f"warning: the image was built for CUDA {cuda}, which the driver {host.driver} of "
                f"{chosen} can't run"
            )
    return ""
