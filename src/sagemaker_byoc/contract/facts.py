"""Facts: values of the contract with their sources; the limits of training jobs and of S3."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

API_MODEL = "service model"
"""Prefix of a source inside AWS's published service model; a test compares these with botocore."""

GUIDE = "SageMaker developer guide"


@dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """`value` in `unit`, as `source` states it, read on `checked` (ISO date)."""

    value: T
    unit: str
    source: str
    checked: str
    note: str = ""


CHECKED = "2026-11-23"


def _model(value: int, unit: str, member: str, note: str = "") -> Fact[int]:
    return Fact(value, unit, f"{API_MODEL}: {member}", CHECKED, note)


def _pattern(value: str, member: str) -> Fact[str]:
    return Fact(value, "regular expression", f"{API_MODEL}: {member}", CHECKED)


HYPERPARAMETERS = _model(100, "pairs", "sagemaker.HyperParameters.max")
HYPERPARAMETER_KEY = _model(256, "characters", "sagemaker.HyperParameterKey.max")
HYPERPARAMETER_VALUE = _model(
    2500, "characters", "sagemaker.HyperParameterValue.max", "older prose of the guide says 256"
)
CHANNELS = _model(20, "channels", "sagemaker.InputDataConfig.max")
CHANNEL_NAME_LENGTH = _model(64, "characters", "sagemaker.ChannelName.max")
CHANNEL_NAME = _pattern(r"[A-Za-z0-9\.\-_]+", "sagemaker.ChannelName.pattern")
JOB_NAME_LENGTH = _model(63, "characters", "sagemaker.TrainingJobName.max")
JOB_NAME = _pattern(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", "sagemaker.TrainingJobName.pattern")
FAILURE_REASON = _model(
    1024,
    "characters",
    "sagemaker.FailureReason.max",
    "we keep to 1024 bytes of UTF-8, which fits either reading",
)
PROCESSING_FOLDER = Fact(
    "/opt/ml/processing",
    "path",
    f"{GUIDE}: build-your-own-processing-container",
    "2026-11-30",
    "each LocalPath of a processing job is below it",
)
EXIT_MESSAGE_FILE = Fact(
    "/opt/ml/output/message", "path", f"{GUIDE}: byoc-metadata", "2026-11-30", "UTF-8"
)
EXIT_MESSAGE = _model(1024, "characters", "sagemaker.ExitMessage.max", "the guide: the first 1 KB")
METRIC_DEFINITIONS = _model(40, "definitions", "sagemaker.MetricDefinitionList.max")
METRIC_NAME = _model(255, "characters", "sagemaker.MetricName.max")
METRIC_REGEX = _model(500, "characters", "sagemaker.MetricRegex.max")
ENVIRONMENT = _model(100, "pairs", "sagemaker.TrainingEnvironmentMap.max")
ENVIRONMENT_KEY_LENGTH = _model(512, "characters", "sagemaker.TrainingEnvironmentKey.max")
ENVIRONMENT_VALUE = _model(512, "characters", "sagemaker.TrainingEnvironmentValue.max")
ENVIRONMENT_KEY = _pattern("[a-zA-Z_][a-zA-Z0-9_]*", "sagemaker.TrainingEnvironmentKey.pattern")
LONGEST_RUN = Fact(
    28 * 86400,
    "seconds",
    f"{API_MODEL}: sagemaker.StoppingCondition.MaxRuntimeInSeconds, documentation",
    "2026-11-29",
    "an account's default quota is 5 days",
)
CONTAINER_ARGUMENTS = _model(100, "arguments", "sagemaker.TrainingContainerArguments.max")
CONTAINER_ARGUMENT = _model(256, "characters", "sagemaker.TrainingContainerArgument.max")
INSTANCE_GROUPS = _model(5, "groups", "sagemaker.InstanceGroups.max")
IMAGE_NAME = _model(255, "characters", "sagemaker.ContainerImage.max")
BUCKET_NAME = Fact(
    r"(?!\d+\.\d+\.\d+\.\d+$)(?!xn--)(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
    "regular expression",
    "S3 user guide: general purpose bucket naming rules",
    "2026-11-29",
    "without the names that S3 keeps for access points and directory buckets",
)
RESERVED_TAGS = Fact(
    "aws:", "prefix", "AWS: tag naming limits and requirements", "2026-11-29", "in any case"
)


def is_bucket_name(text: str) -> bool:
    return re.fullmatch(BUCKET_NAME.value, text) is not None


def is_reserved_tag(key: str) -> bool:
    return key.lower().startswith(RESERVED_TAGS.value)
