"""Rules of SageMaker's documentation for a request, beyond the sizes and patterns of its model.

The rules read the final request, so that they also see members that the user gave raw.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sagemaker_byoc.contract import facts
from sagemaker_byoc.launch.shared import words

USUAL_LONGEST_RUN = 5 * 86400
"""Seconds (SageMaker quotas: longest run time for a training job; may be raised)."""
LARGEST_VOLUME = 16384
"""GiB (EBS user guide: volume constraints, gp2)."""
MODEL_ENVIRONMENT = 32 * 1024
"""Bytes of all variables (service model: sagemaker.ContainerDefinition.Environment)."""
SERVERLESS_STEP = 1024
"""MB (service model: sagemaker.ProductionVariantServerlessConfig.MemorySizeInMB)."""
BUCKET_HINT = "A bucket's name has 3 to 63 lower-case letters, digits, dots and hyphens"
LONGEST_ROLE = 64
"""Characters (IAM user guide: IAM and AWS STS quotas, name length limits)."""
_ACCESS_POINT = ("arn:", "accesspoint")


@dataclass(frozen=True, slots=True)
class Finding:
    """`path` has the names of members; `label` names the entry of a list or a map, if any."""

    path: tuple[str, ...]
    what: str
    """Follows the name of the key: "is 5, …"."""
    hint: str
    label: str = ""
    is_warning: bool = False


Request = Mapping[str, Any]


def check(operation: str, request: Request) -> Iterator[Finding]:
    yield from _tags(request)
    yield from _network(request)
    yield from _role(request)
    yield from _variables(request)
    for path, label, uri in _locations(request):
        yield from _location(path, label, uri)
    for rule in _RULES.get(operation, ()):
        yield from rule(request)


def key_of(operation: str, finding: Finding, raw: Request) -> str:
    """Return the table's key for a finding; `raw` has the members that the user gave."""
    label = [finding.label] if finding.label else []
    if not _has(raw, finding.path, finding.label):
        for length in range(len(finding.path), 0, -1):
            key = _KEYS.get(finding.path[:length])
            if key is not None:
                return key.format(finding.label) if "{}" in key else ".".join([key, *label])
    return ".".join(["request", operation, *finding.path, *label])


def _has(raw: Any, path: Sequence[str], label: str) -> bool:
    for name in path:
        if isinstance(raw, list):
            return True
        if not isinstance(raw, Mapping) or name not in raw:
            return False
        raw = raw[name]
    return not label or not isinstance(raw, Mapping) or label in raw


_CHANNEL, _VARIANT = ("InputDataConfig",), ("ProductionVariants",)
_SOURCE = (*_CHANNEL, "DataSource", "S3DataSource")
_ALGORITHM = ("AlgorithmSpecification",)
_KEYS: Mapping[tuple[str, ...], str] = {
    ("TrainingJobName",): "name",
    ("ModelName",): "name",
    ("EndpointConfigName",): "name",
    ("EndpointName",): "name",
    ("RoleArn",): "role",
    ("ExecutionRoleArn",): "role",
    ("Bucket",): "bucket",
    ("HyperParameters",): "hyperparameters",
    ("Environment",): "environment",
    ("PrimaryContainer", "Environment"): "environment",
    ("PrimaryContainer", "Image"): "image",
    ("PrimaryContainer", "ModelDataUrl"): "model",
    ("Tags",): "tags",
    ("VpcConfig", "Subnets"): "subnets",
    ("VpcConfig", "SecurityGroupIds"): "security-groups",
    (*_ALGORITHM, "TrainingImage"): "image",
    (*_ALGORITHM, "MetricDefinitions"): "metrics",
    _CHANNEL: "channels",
    (*_CHANNEL, "InputMode"): "channels.{}.mode",
    (*_CHANNEL, "ContentType"): "channels.{}.content-type",
    (*_SOURCE, "S3DataDistributionType"): "channels.{}.distribution",
    (*_SOURCE, "S3Uri"): "channels.{}.source",
    ("OutputDataConfig", "S3OutputPath"): "output",
    ("CheckpointConfig", "S3Uri"): "checkpoints",
    ("CheckpointConfig",): "checkpoints",
    ("ResourceConfig", "InstanceType"): "instance-type",
    ("ResourceConfig", "InstanceCount"): "instance-count",
    ("ResourceConfig", "VolumeSizeInGB"): "volume-gb",
    ("StoppingCondition", "MaxRuntimeInSeconds"): "max-runtime",
    ("StoppingCondition", "MaxWaitTimeInSeconds"): "max-wait",
    (*_VARIANT, "InstanceType"): "instance-type",
    (*_VARIANT, "InitialInstanceCount"): "instance-count",
    (*_VARIANT, "InferenceAmiVersion"): "ami-version",
    (*_VARIANT, "ContainerStartupHealthCheckTimeoutInSeconds"): "startup-timeout",
    (*_VARIANT, "ModelDataDownloadTimeoutInSeconds"): "download-timeout",
    (*_VARIANT, "ServerlessConfig", "MemorySizeInMB"): "serverless.memory-mb",
    (*_VARIANT, "ServerlessConfig", "MaxConcurrency"): "serverless.max-concurrency",
}


def _tags(request: Request) -> Iterator[Finding]:
    for tag in request.get("Tags") or ():
        key = str(tag.get("Key", ""))
        if facts.is_reserved_tag(key):
            yield Finding(("Tags",), "has a name that AWS reserves (aws:)", "Use another name", key)


def _network(request: Request) -> Iterator[Finding]:
    network = request.get("VpcConfig") or {}
    for member, prefix in (("Subnets", "subnet-"), ("SecurityGroupIds", "sg-")):
        for identifier in network.get(member) or ():
            if not str(identifier).startswith(prefix):
                yield Finding(
                    ("VpcConfig", member),
                    f"has {identifier!r}, which is not an id of one",
                    f"Write ids, such as {prefix}0123456789abcdef0",
                )


def _role(request: Request) -> Iterator[Finding]:
    for member in ("RoleArn", "ExecutionRoleArn"):
        name = str(request.get(member, "/x")).rpartition("/")[2]
        if not 1 <= len(name) <= LONGEST_ROLE:
            what = f"has a name of {len(name)} characters; IAM takes 1 to {LONGEST_ROLE}"
            yield Finding((member,), what, "Name the role, or write its whole ARN")


def _variables(request: Request) -> Iterator[Finding]:
    for path in (("Environment",), ("PrimaryContainer", "Environment")):
        found = request
        for name in path:
            found = found.get(name) or {}
        for name, value in found.items():
            if "\0" in value:
                what = "has a NUL character, which Linux passes to no program"
                yield Finding(path, what, "Leave it out", name)


def _locations(request: Request) -> Iterator[tuple[tuple[str, ...], str, object]]:
    """Yield the path of each place in S3, its channel's name, and its URI."""
    for path in (
        ("OutputDataConfig", "S3OutputPath"),
        ("CheckpointConfig", "S3Uri"),
        ("PrimaryContainer", "ModelDataUrl"),
        ("DataCaptureConfig", "DestinationS3Uri"),
        ("DebugHookConfig", "S3OutputPath"),
        ("TensorBoardOutputConfig", "S3OutputPath"),
    ):
        yield path, "", (request.get(path[0]) or {}).get(path[1])
    for channel in request.get("InputDataConfig") or ():
        source = (channel.get("DataSource") or {}).get("S3DataSource") or {}
        yield (*_SOURCE, "S3Uri"), str(channel.get("ChannelName")), source.get("S3Uri")


def _location(path: tuple[str, ...], label: str, uri: object) -> Iterator[Finding]:
    if not isinstance(uri, str) or not uri.startswith("s3://"):
        return
    bucket = uri.removeprefix("s3://").partition("/")[0]
    if not facts.is_bucket_name(bucket) and not all(word in bucket for word in _ACCESS_POINT):
        what = f"is {uri!r}, and {bucket!r} is not the name of a bucket"
        yield Finding(path, what, f"{BUCKET_HINT}: s3://BUCKET/PREFIX", label)


def _times(request: Request) -> Iterator[Finding]:
    stopping = request.get("StoppingCondition") or {}
    runtime, wait = stopping.get("MaxRuntimeInSeconds"), stopping.get("MaxWaitTimeInSeconds")
    spot = request.get("EnableManagedSpotTraining")
    path = ("StoppingCondition", "MaxWaitTimeInSeconds")
    if wait is not None and not spot:
        yield Finding(path, "is for managed spot training", "Add spot = true, or leave it out")
    elif spot and wait is not None and runtime is not None and wait < runtime:
        yield Finding(
            path,
            f"is {words(wait)}, less than max-runtime, {words(runtime)}",
            "It includes the run itself: make it at least as long as max-runtime",
        )
    path = ("StoppingCondition", "MaxRuntimeInSeconds")
    if runtime is not None and runtime > facts.LONGEST_RUN.value:
        limit = words(facts.LONGEST_RUN.value)
        yield Finding(path, f"is {words(runtime)}; SageMaker takes {limit} at most", "Shorten it")
    elif runtime is not None and runtime > USUAL_LONGEST_RUN:
        yield Finding(
            path,
            f"is {words(runtime)}, longer than an account's default quota of "
            f"{words(USUAL_LONGEST_RUN)}",
            "Ask AWS for a higher quota, or shorten it",
            is_warning=True,
        )


def _spot(request: Request) -> Iterator[Finding]:
    # SageMaker developer guide: train-warm-pools, considerations.
    resources = request.get("ResourceConfig") or {}
    path = ("ResourceConfig", "KeepAlivePeriodInSeconds")
    if resources.get("KeepAlivePeriodInSeconds"):
        for wrong, what in (
            (request.get("EnableManagedSpotTraining"), "spot instances"),
            (resources.get("InstanceGroups"), "instance groups"),
        ):
            if wrong:
                yield Finding(path, f"keeps a warm pool, which {what} can't have", "Leave one out")
    if request.get("EnableManagedSpotTraining") and not request.get("CheckpointConfig"):
        yield Finding(
            ("CheckpointConfig",),
            "is missing: after each interruption a spot job starts from its beginning",
            "Write checkpoints = true, and resume from /opt/ml/checkpoints",
            is_warning=True,
        )


def _volume(request: Request) -> Iterator[Finding]:
    size = (request.get("ResourceConfig") or {}).get("VolumeSizeInGB")
    if size is not None and size > LARGEST_VOLUME:
        yield Finding(
            ("ResourceConfig", "VolumeSizeInGB"),
            f"is {size}; the largest volume has {LARGEST_VOLUME}",
            'Read large data with mode = "FastFile", and leave it in S3',
        )


def _channels(request: Request) -> Iterator[Finding]:
    names = [str(each.get("ChannelName")) for each in request.get("InputDataConfig") or ()]
    repeated = _repeated(names)
    for name in dict.fromkeys(names):
        if name in {".", ".."}:
            yield Finding(_CHANNEL, "names another folder", "Use a name of letters", name)
        if name in repeated:
            yield Finding(_CHANNEL, "is named more than once", "Give each another name", name)


def _algorithm(request: Request) -> Iterator[Finding]:
    if (request.get("AlgorithmSpecification") or {}).get("AlgorithmName"):
        what = "names an algorithm beside the image, which excludes it"
        yield Finding((*_ALGORITHM, "AlgorithmName"), what, "Leave it out")


def _groups(request: Request) -> Iterator[Finding]:
    groups = (request.get("ResourceConfig") or {}).get("InstanceGroups")
    path = ("ResourceConfig", "InstanceGroups")
    if groups is not None and not groups:
        yield Finding(path, "is empty", "Write a group, or leave it out")
    for name in _repeated([str(each.get("InstanceGroupName")) for each in groups or ()]):
        yield Finding(path, f"has {name!r} more than once", "Give each another name")


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]


def _metrics(request: Request) -> Iterator[Finding]:
    path = (*_ALGORITHM, "MetricDefinitions")
    for definition in (request.get(path[0]) or {}).get(path[1]) or ():
        name, regex = str(definition.get("Name")), str(definition.get("Regex", ""))
        try:
            groups = re.compile(regex).groups
        except re.error as error:
            yield Finding(path, f"is not a regular expression: {error}", "Correct it", name)
            continue
        if not groups:
            hint = "Put the number in parentheses: 'loss=([0-9.]+)'"
            yield Finding(path, "has no group, so that there is no value", hint, name)


def _variants(request: Request) -> Iterator[Finding]:
    variants = request.get("ProductionVariants") or ()
    shadows = request.get("ShadowProductionVariants") or ()
    for each in (*variants, *shadows):
        name = str(each.get("VariantName"))
        if bool(each.get("ServerlessConfig")) == ("InstanceType" in each):
            what = "has an InstanceType or a ServerlessConfig: one of the two"
            yield Finding(_VARIANT, what, "Write one and leave the other out", name)
    for name in _repeated([str(each.get("VariantName")) for each in (*variants, *shadows)]):
        yield Finding(_VARIANT, "is named more than once", "Give each variant another name", name)
    # Service model: CreateEndpointConfigInput.ShadowProductionVariants, documentation.
    if shadows and (len(variants), len(shadows)) != (1, 1):
        what = f"has {len(shadows)} beside {len(variants)} variants; SageMaker takes one of each"
        yield Finding(("ShadowProductionVariants",), what, "Leave the others out")


def _serverless(request: Request) -> Iterator[Finding]:
    # SageMaker developer guide: serverless-endpoints, feature exclusions.
    variants = [*(request.get("ProductionVariants") or ())]
    serverless = _serverless_configs(request)
    for config in serverless:
        provisioned, most = config.get("ProvisionedConcurrency"), config.get("MaxConcurrency")
        if provisioned is not None and most is not None and provisioned > most:
            yield Finding(
                (*_VARIANT, "ServerlessConfig", "ProvisionedConcurrency"),
                f"is {provisioned}, more than the most requests at a time, {most}",
                "Make it smaller, or max-concurrency larger",
            )
        memory = config.get("MemorySizeInMB")
        if memory is not None and memory % SERVERLESS_STEP:
            yield Finding(
                (*_VARIANT, "ServerlessConfig", "MemorySizeInMB"),
                f"is {memory}; SageMaker takes 1024, 2048, 3072, 4096, 5120 or 6144",
                "Write one of these",
            )
    capture = (request.get("DataCaptureConfig") or {}).get("EnableCapture")
    for member, wrong in (
        ("DataCaptureConfig", capture),
        ("AsyncInferenceConfig", request.get("AsyncInferenceConfig")),
        ("ShadowProductionVariants", request.get("ShadowProductionVariants")),
        ("VpcConfig", request.get("VpcConfig")),
        ("EnableNetworkIsolation", request.get("EnableNetworkIsolation")),
        ("ProductionVariants", len(variants) > 1),
    ):
        if serverless and wrong:
            what = _NOT_SERVERLESS.format("more than one of them" if wrong is True else "it")
            yield Finding((member,), what, "Leave it out, or use instances")


_NOT_SERVERLESS = "is set, and a serverless endpoint can't have {}"


def _serverless_configs(request: Request) -> list[Mapping[str, Any]]:
    variants = request.get("ProductionVariants") or ()
    return [each["ServerlessConfig"] for each in variants if each.get("ServerlessConfig")]


def check_together(requests: Mapping[str, Request]) -> Iterator[tuple[str, Finding]]:
    """Yield the operation and what is wrong with its request because of another's.

    Sources: SageMaker developer guide, serverless-endpoints; service model, ContainerDefinition.
    """
    model = requests.get("CreateModel") or {}
    if not _serverless_configs(requests.get("CreateEndpointConfig") or {}):
        return
    container = model.get("PrimaryContainer") or {}
    access = (container.get("ImageConfig") or {}).get("RepositoryAccessMode")
    for path, wrong in (
        (("VpcConfig", "Subnets"), model.get("VpcConfig")),
        (("EnableNetworkIsolation",), model.get("EnableNetworkIsolation")),
        (("PrimaryContainer", "ModelDataSource"), container.get("ModelDataSource")),
        (("PrimaryContainer", "Mode"), container.get("Mode") == "MultiModel"),
        (("PrimaryContainer", "ImageConfig"), access == "Vpc"),
    ):
        if wrong:
            what = _NOT_SERVERLESS.format("it")
            yield "CreateModel", Finding(path, what, "Leave it out, or use instances")


def _model(request: Request) -> Iterator[Finding]:
    container = request.get("PrimaryContainer") or {}
    if container and request.get("Containers"):
        what = "is set beside the container of the table's image, which excludes it"
        yield Finding(("Containers",), what, "Leave it out: an endpoint here has one container")
    if container.get("ModelDataUrl") and container.get("ModelDataSource"):
        what = "is set beside the table's model, which excludes it"
        yield Finding(("PrimaryContainer", "ModelDataSource"), what, "Leave one of them out")
    variables = container.get("Environment") or {}
    size = sum(len(text.encode()) for pair in variables.items() for text in pair)
    if size > MODEL_ENVIRONMENT:
        yield Finding(
            ("PrimaryContainer", "Environment"),
            f"has {size} bytes; SageMaker takes {MODEL_ENVIRONMENT}",
            "Put large values into files of the model",
        )
    uri = container.get("ModelDataUrl")
    if uri and container.get("Mode", "SingleModel") == "SingleModel" and ".tar.gz" not in uri:
        yield Finding(
            ("PrimaryContainer", "ModelDataUrl"),
            f"is {uri!r}, and SageMaker unpacks a .tar.gz archive",
            "Name the archive, not its folder",
            is_warning=True,
        )


_RULES: Mapping[str, Sequence[Callable[[Request], Iterator[Finding]]]] = {
    "CreateTrainingJob": (
        _times,
        _spot,
        _volume,
        _groups,
        _channels,
        _algorithm,
        _metrics,
    ),
    "CreateModel": (_model,),
    "CreateEndpointConfig": (_variants, _serverless),
}
