"""The NVIDIA drivers on SageMaker's hosts, and the CUDA versions that each can run.

The kernel's part of the driver is the host's, and an image can't bring another. A host image can be
named for an endpoint and for a batch transform job; for a training job it can't.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sagemaker_byoc.contract.facts import Fact

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
