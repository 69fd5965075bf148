"""`[tool.byoc.train]`: its keys, and the plan that follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract import facts
from sagemaker_byoc.contract.training.channels import InputMode
from sagemaker_byoc.contract.variables import CODE_COMMIT, IMAGE_DIGEST
from sagemaker_byoc.host.aws_calls import Call
from sagemaker_byoc.launch import inputs
from sagemaker_byoc.launch.inputs import check_name, content_name, digest_of
from sagemaker_byoc.launch.shared import (
    SHARED_KEYS,
    Shared,
    merged_request,
    read_shared,
    require_instance_type,
    vpc,
    words,
)
from sagemaker_byoc.launch.steps import Place, Plan, Step, Upload
from sagemaker_byoc.launch.table import Problems, Table

OPERATION = "CreateTrainingJob"
KEYS: Mapping[str, str] = {
    **SHARED_KEYS,
    "program": "for `byoc build` and `byoc train`; it is in the image already",
    "dockerfile": "for `byoc build`",
    "max-runtime": 'seconds or "2h30m"; SageMaker then ends the job (default: "1d", its own)',
    "spot": "true: spare capacity, which AWS can take away",
    "max-wait": "with spot: the longest time until the end, waiting included (default: twice "
    "max-runtime)",
    "volume-gb": "disk of each instance (default: 30)",
    "channels": 'NAME = "PATH", "s3://…", or {source, mode, distribution, content-type}',
    "hyperparameters": "NAME = VALUE",
    "metrics": 'NAME = "REGEX" with one group',
    "output": '"s3://…" for the artifacts (default: NAME/output in the bucket)',
    "checkpoints": 'true, or "s3://…": /opt/ml/checkpoints is kept there',
}
_CHANNEL_KEYS = ("source", "mode", "distribution", "content-type")
_DAY = 86400
_VOLUME_GB = 30
_USELESS = "Launch it again under another name with --new, or fix the cause first"


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    source: str
    mode: str
    distribution: str
    content_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    shared: Shared
    max_runtime: int
    """Seconds."""
    max_wait: int | None
    """Seconds; None: not spot."""
    volume_gb: int
    channels: Mapping[str, Channel]
    hyperparameters: Mapping[str, str]
    metrics: Mapping[str, str]
    output: str
    checkpoints: str
    """An S3 URI, or `default`, or empty."""


def read(
    where: str, values: object, folder: Path, problems: Problems | None = None
) -> TrainSettings:
    """`folder` is that of the configuration file. Raise SettingsError unless given `problems`."""
    table = Table(where, values, KEYS, problems)
    shared = read_shared(where, table, folder, (OPERATION,))
    max_runtime = table.duration("max-runtime", _DAY)
    spot = table.flag("spot")
    if "max-wait" in table and not spot:
        table.wrong("max-wait", "Add spot = true, or leave max-wait out")
    output = table.text("output")
    if output and not inputs.is_remote(output):
        table.wrong("output", 'Write output = "s3://BUCKET/PREFIX", or leave it out')
    return TrainSettings(
        shared=shared,
        max_runtime=max_runtime,
        max_wait=table.duration("max-wait", 2 * max_runtime) if spot else None,
        volume_gb=table.number("volume-gb", _VOLUME_GB),
        channels=read_channels(table),
        hyperparameters=table.pairs("hyperparameters"),
        metrics=table.pairs("metrics"),
        output=output,
        checkpoints=_checkpoints(table),
    )


def read_channels(table: Table) -> dict[str, Channel]:
    """Return each NAME = "PLACE", or NAME = {source = "PLACE", …}."""
    return {
        name: _channel(table.inner(f"channels.{name}", _entry(value), _CHANNEL_KEYS))
        for name, value in table.table("channels").items()
    }


def _checkpoints(table: Table) -> str:
    value = table.value("checkpoints")
    if isinstance(value, bool) or value is None:
        return "default" if value else ""
    if not isinstance(value, str) or not inputs.is_remote(value):
        table.wrong("checkpoints", 'Write checkpoints = true, or "s3://BUCKET/PREFIX"')
        return ""
    return value


def plan(settings: TrainSettings, place: Place, *, new: str = "") -> Plan:
    """Plan a job; `new` makes its name differ from an earlier one's. Raise SettingsError."""
    shared, stem = settings.shared, check_name(settings.shared.where, settings.shared.name)
    groups = "InstanceGroups" in shared.request[OPERATION].get("ResourceConfig", {})
    if not groups:
        require_instance_type(shared)
    hosts = {"InstanceType": shared.instance_type, "InstanceCount": shared.instance_count}
    channels, uploads = _channels(settings, place)
    metrics = [{"Name": name, "Regex": regex} for name, regex in settings.metrics.items()]
    output = settings.output or f"s3://{place.data_bucket}/{stem}/output"
    request: dict[str, Any] = {
        "AlgorithmSpecification": {
            "TrainingImage": place.image,
            "TrainingInputMode": InputMode.FILE.value,
            **({"MetricDefinitions": metrics} if metrics else {}),
        },
        "RoleArn": place.role,
        **({"InputDataConfig": channels} if channels else {}),
        "OutputDataConfig": {"S3OutputPath": output},
        "ResourceConfig": {
            **({} if groups else hosts),
            "VolumeSizeInGB": settings.volume_gb,
        },
        "StoppingCondition": {
            "MaxRuntimeInSeconds": settings.max_runtime,
            **({"MaxWaitTimeInSeconds": settings.max_wait} if settings.max_wait else {}),
        },
        **({"EnableManagedSpotTraining": True} if settings.max_wait else {}),
        **({"HyperParameters": dict(settings.hyperparameters)} if settings.hyperparameters else {}),
        **({"Environment": dict(shared.environment)} if shared.environment else {}),
        **({"VpcConfig": vpc(shared)} if shared.subnets else {}),
    }
    content = {**request, "Image": place.digest or place.image, "Raw": shared.request}
    config = digest_of(content)
    if settings.checkpoints:
        uri = settings.checkpoints
        own = f"s3://{place.data_bucket}/{stem}/checkpoints/{config}"
        request["CheckpointConfig"] = {"S3Uri": own if uri == "default" else uri}
    name = content_name(stem, content, tail=new)
    if environment := _environment(shared, place):
        request["Environment"] = environment
    request = {
        "TrainingJobName": name,
        **merged_request(request, shared, OPERATION),
        "Tags": place.tags(config, dict(shared.tags)),
    }
    describe = Call("sagemaker", "DescribeTrainingJob", {"TrainingJobName": name})
    job = Step(
        makes=f"training job {name}",
        call=Call("sagemaker", OPERATION, request),
        look=describe,
        dead=dict.fromkeys(("Failed", "Stopped", "Stopping"), _USELESS),
        undo=place.aws(f"sagemaker stop-training-job --training-job-name {name}"),
    )
    own_bucket = uploads or not settings.output or settings.checkpoints == "default"
    bucket = place.bucket_steps() if own_bucket else ()
    return Plan(
        kind="train",
        name=name,
        region=place.region,
        steps=(*bucket, *uploads, job),
        cost=_cost(request),
    )


def _cost(request: Mapping[str, Any]) -> str:
    """Return what will run, with the members that the user gave."""
    resources = request["ResourceConfig"]
    groups = resources.get("InstanceGroups") or [resources]
    hosts = [f"{each.get('InstanceCount')} x {each.get('InstanceType')}" for each in groups]
    spot = ", spot" if request.get("EnableManagedSpotTraining") else ""
    disk = f", {resources['VolumeSizeInGB']} GB each" if "VolumeSizeInGB" in resources else ""
    seconds = request["StoppingCondition"].get("MaxRuntimeInSeconds", _DAY)
    return f"{' and '.join(hosts)}{spot}{disk}, for at most {words(seconds)}"


def _entry(value: object) -> object:
    return {"source": value} if isinstance(value, str) else value


def _channel(table: Table) -> Channel:
    return Channel(
        source=table.required("source", "data/train"),
        mode=table.text("mode"),
        distribution=table.text("distribution") or "FullyReplicated",
        content_type=table.text("content-type"),
    )


def _channels(
    settings: TrainSettings, place: Place
) -> tuple[list[dict[str, Any]], tuple[Upload, ...]]:
    found: list[dict[str, Any]] = []
    uploads: list[Upload] = []
    for name, channel in settings.channels.items():
        uri = channel.source
        if not inputs.is_remote(uri):
            where = f"{settings.shared.where}: channels.{name}"
            prefix = f"{settings.shared.name}/inputs/{name}"
            path = settings.shared.folder / uri
            uploads.append(inputs.upload(where, path, place, prefix))
            uri = uploads[-1].uri
        source = {
            "S3DataType": "S3Prefix",
            "S3Uri": uri,
            "S3DataDistributionType": channel.distribution,
        }
        found.append(
            {
                "ChannelName": name,
                "DataSource": {"S3DataSource": source},
                **({"ContentType": channel.content_type} if channel.content_type else {}),
                **({"InputMode": channel.mode} if channel.mode else {}),
            }
        )
    return found, tuple(uploads)


def _environment(shared: Shared, place: Place) -> dict[str, str]:
    """Return the user's variables, and if there is room those that our library records of a run."""
    known = {CODE_COMMIT: place.commit, IMAGE_DIGEST: place.digest}
    found = {name: value for name, value in known.items() if value} | {**shared.environment}
    return found if len(found) <= facts.ENVIRONMENT.value else dict(shared.environment)
