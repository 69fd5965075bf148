"""A CreateTrainingJob request, checked and typed: what the job will do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from sagemaker_byoc.contract import facts
from sagemaker_byoc.contract.archives import MODEL_ARCHIVE
from sagemaker_byoc.contract.paths import DEFAULT_ROOT
from sagemaker_byoc.contract.training.channels import (
    MANIFEST_SUFFIX,
    Channel,
    Distribution,
    InputMode,
    RecordWrapper,
)
from sagemaker_byoc.contract.training.cluster import HOMOGENEOUS_GROUP, InstanceGroup
from sagemaker_byoc.region.services.s3.store.objects import parse_s3_uri
from sagemaker_byoc.region.services.sagemaker.jobs.inputs import ChannelPlan, DataType, choice
from sagemaker_byoc.region.services.sagemaker.jobs.job import DEFAULT_RUNTIME, MOST_HOSTS
from sagemaker_byoc.region.services.sagemaker.jobs.outputs import (
    ReportPlan,
    SyncedFolder,
    location,
)
from sagemaker_byoc.region.services.sagemaker.resources import invalid
from sagemaker_byoc.region.wire.operations import AwsError

MODEL_FOLDER = "model"

TENSORBOARD = "TensorBoardOutputConfig"
REPORTS = (
    ("DebugHookConfig", "/opt/ml/output/tensors", "debug-output"),
    ("ProfilerConfig", "/opt/ml/output/profiler", "profiler-output"),
    (TENSORBOARD, "/opt/ml/output/tensorboard", "tensorboard-output"),
)
"""Member of the request, default of its LocalPath, folder in S3."""
RESERVED = ("/opt/ml", "/tmp", "/usr/local/nvidia")  # noqa: S108 - SageMaker's own list
"""github.com/aws/amazon-sagemaker-examples/issues/3620 quotes it from the service's refusal."""
KERNEL = ("/proc", "/sys", "/dev")
SYSTEM = ("bin", "etc", "home", "lib", "lib64", "root", "run", "sbin", "tmp", "usr", "var")
"""Folders that every container needs."""

Request = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    name: str
    image: str
    entrypoint: tuple[str, ...]
    arguments: tuple[str, ...]
    hyperparameters: Mapping[str, str]
    environment: Mapping[str, str]
    channels: tuple[ChannelPlan, ...]
    groups: tuple[InstanceGroup, ...]
    output_bucket: str
    output_prefix: str
    """Without a trailing slash."""
    compress: bool
    checkpoint: SyncedFolder | None
    reports: tuple[ReportPlan, ...]
    metrics: Mapping[str, str]
    """Name to regular expression."""
    max_runtime: int
    """Seconds."""
    max_wait: int | None
    spot: bool
    isolated: bool

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(host for group in self.groups for host in group.hosts)

    @property
    def model_uri(self) -> str:
        """The URI of an archive, or of a prefix with a trailing slash."""
        name = MODEL_ARCHIVE if self.compress else f"{MODEL_FOLDER}/"
        return f"s3://{self.output_bucket}/{self.output_key(name)}"

    def output_key(self, name: str) -> str:
        parts = (self.output_prefix, self.name, "output", name)
        return "/".join(part for part in parts if part)

    def group_of(self, host: str) -> InstanceGroup:
        return next(group for group in self.groups if host in group.hosts)


def plan_of(request: Request) -> JobPlan:
    """Return the plan. Raise AwsError for what can't be run as requested."""
    _refuse_unsupported(request)
    algorithm = request["AlgorithmSpecification"]
    if not algorithm.get("TrainingImage"):
        raise invalid(
            "AlgorithmSpecification.TrainingImage is needed: there are no algorithms here"
        )
    groups = _groups(request.get("ResourceConfig") or {})
    bucket, prefix = location(request["OutputDataConfig"]["S3OutputPath"])
    stopping = request.get("StoppingCondition") or {}
    spot = bool(request.get("EnableManagedSpotTraining"))
    max_runtime = _max_runtime(stopping)
    return JobPlan(
        name=request["TrainingJobName"],
        image=algorithm["TrainingImage"],
        entrypoint=tuple(algorithm.get("ContainerEntrypoint") or ()),
        arguments=tuple(algorithm.get("ContainerArguments") or ()),
        hyperparameters=request.get("HyperParameters") or {},
        environment=request.get("Environment") or {},
        channels=tuple(_channels(request, groups)),
        groups=groups,
        output_bucket=bucket,
        output_prefix=prefix,
        compress=request["OutputDataConfig"].get("CompressionType", "GZIP") != "NONE",
        checkpoint=_checkpoint(request.get("CheckpointConfig")),
        reports=tuple(_reports(request)),
        metrics={m["Name"]: m["Regex"] for m in algorithm.get("MetricDefinitions") or ()},
        max_runtime=max_runtime,
        max_wait=_max_wait(stopping, max_runtime, spot=spot),
        spot=spot,
        isolated=bool(request.get("EnableNetworkIsolation")),
    )


def _refuse_unsupported(request: Request) -> None:
    for member, hint in (
        ("ServerlessJobConfig", "name an AlgorithmSpecification.TrainingImage of your own"),
        ("ModelPackageConfig", "leave it out, and use the model archive in S3"),
    ):
        if request.get(member):
            raise invalid(f"{member} is not supported by this region: {hint}")
    if "AlgorithmSpecification" not in request:
        raise invalid("AlgorithmSpecification is needed")


def _max_runtime(stopping: Request) -> int:
    runtime: int = stopping.get("MaxRuntimeInSeconds", DEFAULT_RUNTIME)
    if runtime > facts.LONGEST_RUN.value:
        raise invalid(
            f"Invalid MaxRuntimeInSeconds {runtime}. The maximum value is "
            f"{facts.LONGEST_RUN.value}, which is 28 days"
        )
    return runtime


def _max_wait(stopping: Request, max_runtime: int, *, spot: bool) -> int | None:
    wait: int | None = stopping.get("MaxWaitTimeInSeconds")
    if wait is not None and not spot:
        raise invalid("MaxWaitTimeInSeconds is only for jobs with EnableManagedSpotTraining")
    if spot and wait is None:
        raise invalid("EnableManagedSpotTraining needs StoppingCondition.MaxWaitTimeInSeconds")
    if wait is not None and wait < max_runtime:
        raise invalid(
            f"Invalid MaxWaitTimeInSeconds {wait}. It must be equal to or greater than "
            f"MaxRuntimeInSeconds, which is {max_runtime}"
        )
    return wait


def _groups(resources: Request) -> tuple[InstanceGroup, ...]:
    wanted = [
        (group["InstanceGroupName"], group["InstanceType"], group["InstanceCount"])
        for group in resources.get("InstanceGroups") or ()
    ]
    if wanted and ("InstanceType" in resources or "InstanceCount" in resources):
        raise invalid("ResourceConfig: give InstanceGroups, or InstanceType and InstanceCount")
    if not wanted:
        preferred = next(iter(resources.get("InstancePreferences") or ()), resources)
        count = preferred.get("InstanceCount", resources.get("InstanceCount", 1))
        if "InstanceType" not in preferred:
            raise invalid("ResourceConfig.InstanceType is needed")
        wanted = [(HOMOGENEOUS_GROUP, preferred["InstanceType"], count)]
    if len({name for name, _, _ in wanted}) < len(wanted):
        raise invalid("ResourceConfig.InstanceGroups: two groups have one name")
    if any(count < 1 for _, _, count in wanted) or sum(n for _, _, n in wanted) > MOST_HOSTS:
        raise AwsError(
            "ResourceLimitExceeded",
            f"A job of this region has 1 to {MOST_HOSTS} instances, all of them on one machine",
        )
    groups, number = [], 1
    for name, kind, count in wanted:
        hosts = tuple(f"algo-{place}" for place in range(number, number + count))
        groups.append(InstanceGroup(name, kind, hosts))
        number += count
    return tuple(groups)


def _channels(request: Request, groups: Sequence[InstanceGroup]) -> Iterator[ChannelPlan]:
    default = request["AlgorithmSpecification"]["TrainingInputMode"]
    seen = set()
    for entry in request.get("InputDataConfig") or ():
        name = entry["ChannelName"]
        if name in seen:
            raise invalid(f"Channel name {name!r} is used twice in InputDataConfig")
        seen.add(name)
        if set(name) == {"."}:
            raise invalid(f"Channel name {name!r} is not the name of a folder")
        yield _channel(name, entry, default, groups)
    for name in seen:
        base, _, number = name.rpartition("_")
        if name.removesuffix(MANIFEST_SUFFIX) in seen - {name} or (
            number.isdecimal() and base in seen
        ):
            raise invalid(
                f"Channel name {name!r} is that of a file which another channel puts into "
                "/opt/ml/input/data: rename one of the two"
            )


def _channel(
    name: str, entry: Request, default_mode: str, groups: Sequence[InstanceGroup]
) -> ChannelPlan:
    where = f"Channel {name!r}"
    source = entry["DataSource"].get("S3DataSource")
    if source is None:
        given = ", ".join(entry["DataSource"]) or "no data source"
        raise invalid(f"{where}: this region reads S3 only, not {given}; use an S3DataSource")
    data_type = choice(DataType, source["S3DataType"], f"{where}: S3DataType")
    mode = choice(InputMode, entry.get("InputMode") or default_mode, f"{where}: InputMode")
    if data_type is DataType.AUGMENTED and mode is not InputMode.PIPE:
        raise invalid(f"{where}: AugmentedManifestFile needs InputMode Pipe")
    if data_type is not DataType.PREFIX and mode is InputMode.FAST_FILE:
        raise invalid(f"{where}: FastFile needs S3DataType S3Prefix")
    attributes = tuple(source.get("AttributeNames") or ())
    if data_type is DataType.AUGMENTED and not attributes:
        raise invalid(f"{where}: AugmentedManifestFile needs AttributeNames")
    bucket, key = parse_s3_uri(source["S3Uri"])
    return ChannelPlan(
        channel=Channel(
            name,
            mode=mode,
            distribution=choice(
                Distribution,
                source.get("S3DataDistributionType") or Distribution.REPLICATED.value,
                f"{where}: S3DataDistributionType",
            ),
            record_wrapper=choice(
                RecordWrapper,
                entry.get("RecordWrapperType") or RecordWrapper.NONE.value,
                f"{where}: RecordWrapperType",
            ),
            content_type=entry.get("ContentType"),
        ),
        folder=f"input/data/{name}",
        data_type=data_type,
        uri=source["S3Uri"],
        bucket=bucket,
        key=key,
        attributes=attributes,
        gunzip=entry.get("CompressionType") == "Gzip" and mode is InputMode.PIPE,
        seed=(entry.get("ShuffleConfig") or {}).get("Seed"),
        hosts=_hosts(where, source.get("InstanceGroupNames") or (), groups),
    )


def _hosts(where: str, names: Sequence[str], groups: Sequence[InstanceGroup]) -> tuple[str, ...]:
    known = {group.name: group.hosts for group in groups}
    for name in names:
        if name not in known:
            raise invalid(f"{where}: there is no instance group {name!r}, but {[*known]}")
    return tuple(host for name in names or known for host in known[name])


def _checkpoint(config: Request | None) -> SyncedFolder | None:
    if not config:
        return None
    local = PurePosixPath(config.get("LocalPath") or DEFAULT_ROOT / "checkpoints")
    root = PurePosixPath(DEFAULT_ROOT)
    if root not in local.parents or ".." in local.parts:
        raise invalid(f"CheckpointConfig.LocalPath {str(local)!r} must be a folder below {root}")
    bucket, prefix = location(config["S3Uri"])
    folder = str(local.relative_to(root))
    if folder == "output/failure" or PurePosixPath(folder).is_relative_to("input"):
        raise invalid(f"CheckpointConfig.LocalPath {str(local)!r} has another use in a container")
    return SyncedFolder(
        what="checkpoints",
        is_restored=True,
        uri=config["S3Uri"],
        bucket=bucket,
        prefix=prefix,
        folder=folder,
    )


def _reports(request: Request) -> Iterator[ReportPlan]:
    for member, default, name in REPORTS:
        config = request.get(member) or {}
        if not config.get("S3OutputPath"):
            continue
        parameters = config.get("ProfilingParameters") or {}
        local = config.get("LocalPath") or parameters.get("LocalPath")
        if local and member == TENSORBOARD:
            _refuse_reserved(PurePosixPath(local))
        bucket, prefix = location(config["S3OutputPath"])
        parts = (*filter(None, prefix.split("/")), request["TrainingJobName"], name)
        folder = _report_folder(f"{member}.LocalPath", local or default)
        yield ReportPlan(name=name, bucket=bucket, prefix="/".join(parts), folder=folder)


def _refuse_reserved(local: PurePosixPath) -> None:
    """Refuse a reserved path, as SageMaker does, even its own default if a request names it."""
    if any(local.is_relative_to(path) for path in RESERVED):
        raise invalid(
            f'"LocalPath" of "{TENSORBOARD}" cannot start with the following reserved path: '
            f"[{', '.join(RESERVED)}]"
        )


def _report_folder(where: str, text: str) -> str:
    """Return the folder, relative to /opt/ml or absolute. Every accepted folder is uploaded."""
    path, root = PurePosixPath(text), PurePosixPath(DEFAULT_ROOT)
    taken = path.is_relative_to(root / "input") or path == root / "output" / "failure"
    system = str(path)[1:] in (*SYSTEM, "usr/local") or any(
        path.is_relative_to(name) for name in KERNEL
    )
    if not path.is_absolute() or ".." in path.parts or path in (root, *root.parents):
        raise invalid(f"{where} {text!r} must be an absolute path of a folder, as /opt/tensorboard")
    if taken or system or "=" in text or not text.isprintable():
        raise invalid(f"{where} {text!r} has another use in a container: name another folder")
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def check_names(request: Request) -> None:
    """Refuse, in AWS's words, a job name that the API would not accept."""
    name = request["TrainingJobName"]
    if not re.fullmatch(facts.JOB_NAME.value, name):
        raise invalid(
            f"1 validation error detected: Value '{name}' at 'trainingJobName' failed to satisfy "
            f"constraint: Member must satisfy regular expression pattern: {facts.JOB_NAME.value}"
        )
