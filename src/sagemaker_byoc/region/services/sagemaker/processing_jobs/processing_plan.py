"""A CreateProcessingJob request, checked and typed: what the job will do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from sagemaker_byoc.contract import facts
from sagemaker_byoc.contract.paths import DEFAULT_ROOT
from sagemaker_byoc.contract.training.channels import Channel, Distribution, InputMode
from sagemaker_byoc.region.services.s3.store.objects import parse_s3_uri
from sagemaker_byoc.region.services.sagemaker.jobs.inputs import ChannelPlan, DataType, choice
from sagemaker_byoc.region.services.sagemaker.jobs.job import DEFAULT_RUNTIME, MOST_HOSTS
from sagemaker_byoc.region.services.sagemaker.jobs.outputs import location
from sagemaker_byoc.region.services.sagemaker.resources import invalid
from sagemaker_byoc.region.wire.operations import AwsError

PROCESSING = PurePosixPath(facts.PROCESSING_FOLDER.value)
Request = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputPlan:
    name: str
    uri: str
    bucket: str
    prefix: str
    """Without a trailing slash."""
    folder: str
    """Relative to /opt/ml."""
    is_continuous: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessingPlan:
    name: str
    image: str
    entrypoint: tuple[str, ...]
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    inputs: tuple[ChannelPlan, ...]
    """Those that the platform brings; not those that the application manages."""
    outputs: tuple[OutputPlan, ...]
    instance_type: str
    hosts: tuple[str, ...]
    max_runtime: int
    """Seconds."""
    isolated: bool


def plan_of(request: Request) -> ProcessingPlan:
    """Return the plan. Raise AwsError for what can't be run as requested."""
    application = request["AppSpecification"]
    instance_type, count = instances_of(request)
    hosts = tuple(f"algo-{number}" for number in range(1, count + 1))
    network = request.get("NetworkConfig") or {}
    _check_names(request)
    inputs = tuple(_inputs(request, hosts))
    outputs = tuple(_outputs(request))
    _check_folders(inputs, outputs)
    return ProcessingPlan(
        name=request["ProcessingJobName"],
        image=application["ImageUri"],
        entrypoint=tuple(application.get("ContainerEntrypoint") or ()),
        arguments=tuple(application.get("ContainerArguments") or ()),
        environment=request.get("Environment") or {},
        inputs=inputs,
        outputs=outputs,
        instance_type=instance_type,
        hosts=hosts,
        max_runtime=max_runtime(request),
        isolated=bool(network.get("EnableNetworkIsolation")),
    )


def max_runtime(request: Request) -> int:
    stopping = request.get("StoppingCondition") or {}
    seconds: int = stopping.get("MaxRuntimeInSeconds", DEFAULT_RUNTIME)
    return seconds


def instances_of(request: Request) -> tuple[str, int]:
    """Return type and number of the instances. The first of InstancePreferences is available."""
    where = "ProcessingResources.ClusterConfig"
    cluster = request["ProcessingResources"]["ClusterConfig"]
    preferences = cluster.get("InstancePreferences") or ()
    if preferences and "InstanceType" in cluster:
        raise invalid(f"{where}: InstancePreferences and InstanceType are mutually exclusive")
    counts = [each["InstanceCount"] for each in preferences if "InstanceCount" in each]
    if counts and (len(counts) < len(preferences) or "InstanceCount" in cluster):
        raise invalid(
            f"{where}: set InstanceCount in each of InstancePreferences, or once in ClusterConfig"
        )
    kind = (preferences[0] if preferences else cluster).get("InstanceType")
    if not kind:
        raise invalid(f"{where}.InstanceType is needed")
    count = counts[0] if counts else cluster.get("InstanceCount", 1)
    if not 1 <= count <= MOST_HOSTS:
        raise AwsError(
            "ResourceLimitExceeded",
            f"A job of this region has 1 to {MOST_HOSTS} instances, all of them on one machine",
        )
    return kind, count


def _check_names(request: Request) -> None:
    config = request.get("ProcessingOutputConfig") or {}
    names = [f"InputName {each['InputName']}" for each in request.get("ProcessingInputs") or ()]
    names += [f"OutputName {each['OutputName']}" for each in config.get("Outputs") or ()]
    seen: dict[str, str] = {}
    for shown in names:
        member, _, name = shown.partition(" ")
        if name in seen:
            raise invalid(
                f"{member} {name!r} is also used as {seen[name]}: names of inputs and outputs must "
                "be unique within a processing job"
            )
        seen[name] = member


def _inputs(request: Request, hosts: Sequence[str]) -> Iterator[ChannelPlan]:
    for number, entry in enumerate(request.get("ProcessingInputs") or (), 1):
        where = f"Input {entry['InputName']!r}"
        dataset, source = entry.get("DatasetDefinition"), entry.get("S3Input")
        if (dataset is None) == (source is None):
            raise invalid(f"{where} must specify exactly one of S3Input and DatasetDefinition")
        if entry.get("AppManaged"):
            continue
        if source is None:
            kinds = [name for name in dataset if name.endswith("DatasetDefinition")]
            raise invalid(
                f"{where}: {', '.join(kinds) or 'DatasetDefinition'} is not supported by this "
                "region: store the result of the query in S3, and name it with an S3Input"
            )
        yield _input(number, entry["InputName"], source, hosts)


def _input(number: int, name: str, source: Request, hosts: Sequence[str]) -> ChannelPlan:
    where = f"Input {name!r}"
    missing = [member for member in ("LocalPath", "S3InputMode") if not source.get(member)]
    if missing:
        # The service's own words: github.com/aws/sagemaker-python-sdk/issues/2578
        raise invalid(
            f"Input {name} missing one or more required fields for SageMaker-managed S3Input: "
            + ", ".join(f'"{member}"' for member in missing)
        )
    mode = choice(InputMode, source["S3InputMode"], f"{where}: S3InputMode")
    gunzip = source.get("S3CompressionType") == "Gzip"
    if gunzip and mode is not InputMode.PIPE:
        raise invalid(f"{where}: S3CompressionType Gzip can only be used with S3InputMode Pipe")
    folder = _folder(f"{where}: LocalPath", source["LocalPath"])
    if mode is InputMode.PIPE and "," in folder:
        raise invalid(f"{where}: LocalPath {source['LocalPath']!r} of a pipe must not hold a comma")
    bucket, key = parse_s3_uri(source["S3Uri"])
    return ChannelPlan(
        channel=Channel(
            # A name of an input may be any text; this one is a folder's.
            f"input-{number}",
            mode=mode,
            distribution=choice(
                Distribution,
                source.get("S3DataDistributionType") or Distribution.REPLICATED.value,
                f"{where}: S3DataDistributionType",
            ),
        ),
        folder=folder,
        data_type=choice(DataType, source["S3DataType"], f"{where}: S3DataType"),
        uri=source["S3Uri"],
        bucket=bucket,
        key=key,
        attributes=(),
        gunzip=gunzip,
        seed=None,
        hosts=tuple(hosts),
    )


def _outputs(request: Request) -> Iterator[OutputPlan]:
    for entry in (request.get("ProcessingOutputConfig") or {}).get("Outputs") or ():
        where = f"Output {entry['OutputName']!r}"
        features, target = entry.get("FeatureStoreOutput"), entry.get("S3Output")
        if (features is None) == (target is None):
            raise invalid(f"{where} must specify exactly one of S3Output and FeatureStoreOutput")
        if target is None:
            raise invalid(
                f"{where}: FeatureStoreOutput is not supported by this region: write to S3 with an "
                "S3Output"
            )
        if entry.get("AppManaged"):
            continue
        if not target.get("LocalPath"):
            raise invalid(
                f"Output {entry['OutputName']} missing one or more required fields for "
                'SageMaker-managed S3Output: "LocalPath"'
            )
        bucket, prefix = location(target["S3Uri"])
        yield OutputPlan(
            name=entry["OutputName"],
            uri=target["S3Uri"],
            bucket=bucket,
            prefix=prefix,
            folder=_folder(f"{where}: LocalPath", target["LocalPath"]),
            is_continuous=target["S3UploadMode"] == "Continuous",
        )


def _folder(where: str, text: str) -> str:
    """Return a LocalPath relative to /opt/ml."""
    path = PurePosixPath(text)
    if not path.is_relative_to(PROCESSING) or ".." in path.parts:
        raise invalid(f"{where} {text!r} must be an absolute path that begins with {PROCESSING}/")
    if not text.isprintable():
        raise invalid(f"{where} {text!r} has a character that can't be printed")
    return str(path.relative_to(DEFAULT_ROOT))


def _check_folders(inputs: Sequence[ChannelPlan], outputs: Sequence[OutputPlan]) -> None:
    """Refuse two inputs with one LocalPath, as the service does, and a folder that is a pipe.

    github.com/aws/sagemaker-python-sdk/issues/4939: the service's refusal has no text.
    """
    seen: set[str] = set()
    for plan in inputs:
        if plan.folder in seen:
            raise invalid(
                f"LocalPath {str(DEFAULT_ROOT / plan.folder)!r} is used by two inputs: each input "
                "needs a separate folder"
            )
        seen.add(plan.folder)
    pipes = [plan.folder for plan in inputs if plan.channel.mode is InputMode.PIPE]
    folders = [*seen, *(plan.folder for plan in outputs)]
    for pipe in pipes:
        for folder in folders:
            clash = PurePosixPath(f"{pipe}_0")
            if PurePosixPath(folder).is_relative_to(clash):
                raise invalid(
                    f"LocalPath {str(DEFAULT_ROOT / folder)!r} leads through the pipe "
                    f"{DEFAULT_ROOT / clash} of another input: rename one of the two"
                )
