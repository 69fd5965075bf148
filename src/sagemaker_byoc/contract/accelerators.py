"""The NVIDIA drivers on SageMaker's hosts, and the CUDA versions that each can run."""

from __future__ import annotations

from dataclasses import dataclass

from sagemaker_byoc.contract.facts import Fact

_CHECKED = "2026-11-23"


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
    _CHECKED,
    "what CreateTrainingJob runs on is not published",
)
OLDEST_DRIVER = Fact(
    {11: (450, 80), 12: (525, 60), 13: (580, 65)},
    "CUDA major version to driver version",
    "NVIDIA: CUDA compatibility, minor version compatibility",
    _CHECKED,
    "within a major version a newer toolkit runs on this driver, but for what needs PTX compiled",
)
SERVERLESS_IMAGE = Fact(
    10 * 10**9,
    "bytes",
    "SageMaker developer guide: serverless-endpoints",
    _CHECKED,
    "compressed, as ECR counts",
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
