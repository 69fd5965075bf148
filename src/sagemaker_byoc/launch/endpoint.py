"""`[tool.byoc.endpoint]`: its keys, and the plan that follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagemaker_byoc.host.aws_calls import Call, Caller
from sagemaker_byoc.launch import inputs
from sagemaker_byoc.launch.execute import find
from sagemaker_byoc.launch.image import KEY, Choice, choose
from sagemaker_byoc.launch.inputs import check_name, content_name, digest_of
from sagemaker_byoc.launch.shared import (
    SHARED_KEYS,
    Shared,
    merged_request,
    read_shared,
    require_instance_type,
    vpc,
)
from sagemaker_byoc.launch.steps import Place, Plan, Step, Upload
from sagemaker_byoc.launch.table import Problems, SettingsError, Table

JOB = "job:"
OPERATIONS = ("CreateModel", "CreateEndpointConfig", "CreateEndpoint", "UpdateEndpoint")
"""Operations whose members the table `request` may give."""
KEYS: Mapping[str, str] = {
    **SHARED_KEYS,
    "model": '"job:NAME" (a job, or the newest completed one whose name begins so), '
    '"s3://…/model.tar.gz", or a path: an archive or a folder',
    "serverless": "{memory-mb, max-concurrency} instead of instances",
    KEY: "InferenceAmiVersion of the instances (default: what the image's CUDA needs)",
    "startup-timeout": 'seconds or "10m" until /ping must answer (default: SageMaker\'s)',
    "download-timeout": "seconds for the model's download (default: SageMaker's)",
}
_SERVERLESS_KEYS = ("memory-mb", "max-concurrency")
_NETWORK_KEYS = ("subnets", "security-groups")
_INSTANCE_KEYS = (KEY, "startup-timeout", "download-timeout")
"""Members of a variant with instances."""
VARIANT = "AllTraffic"
"""Name of the only variant, as in the SageMaker SDK."""
_DEAD = {
    "Failed": "Delete it first: {delete}",
    "Deleting": "Wait until it is gone, then launch again",
    "Creating": "Wait until it is InService, then launch again",
    "Updating": "Wait until it is InService, then launch again",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    shared: Shared
    model: str
    serverless: Mapping[str, int] | None
    """The API's ServerlessConfig."""
    ami_version: str
    """The API's InferenceAmiVersion, if the user names it."""
    startup_timeout: int | None
    download_timeout: int | None
    """Seconds."""


def read(
    where: str, values: object, folder: Path, problems: Problems | None = None
) -> EndpointSettings:
    """`folder` is that of the configuration file. Raise SettingsError unless given `problems`."""
    table = Table(where, values, KEYS, problems)
    serverless = None
    if "serverless" in table:
        own = table.inner("serverless", table.value("serverless"), _SERVERLESS_KEYS)
        serverless = {
            "MemorySizeInMB": own.number("memory-mb", 2048),
            "MaxConcurrency": own.number("max-concurrency", 5),
        }
        for key in _INSTANCE_KEYS:
            if key in table:
                table.wrong(key, "A serverless endpoint has no instances: leave it out")
        for key in _NETWORK_KEYS:
            if key in table:
                table.wrong(key, "A serverless endpoint can't be in a VPC: leave it out")
    timeouts = [
        table.duration(key, 1) if key in table else None
        for key in ("startup-timeout", "download-timeout")
    ]
    return EndpointSettings(
        shared=read_shared(where, table, folder, OPERATIONS, instances=serverless is None),
        model=table.text("model"),
        serverless=serverless,
        ami_version=table.text(KEY),
        startup_timeout=timeouts[0],
        download_timeout=timeouts[1],
    )


def wanted_job(settings: EndpointSettings) -> str:
    """Return the job whose model it is, by name or prefix; empty if the model is not a job's."""
    return settings.model.removeprefix(JOB) if settings.model.startswith(JOB) else ""


def plan(settings: EndpointSettings, place: Place, *, artifact: str = "") -> Plan:
    """Plan an endpoint; `artifact` is the S3 URI of a job's model. Raise SettingsError."""
    shared, name = settings.shared, check_name(settings.shared.where, settings.shared.name)
    uri, uploads = _model(settings, place, artifact)
    container: dict[str, Any] = {
        "Image": place.image,
        **({"ModelDataUrl": uri} if uri else {}),
        **({"Environment": dict(shared.environment)} if shared.environment else {}),
    }
    model: dict[str, Any] = merged_request(
        {
            "PrimaryContainer": container,
            "ExecutionRoleArn": place.role,
            **({"VpcConfig": vpc(shared)} if shared.subnets else {}),
        },
        shared,
        "CreateModel",
    )
    image = {"Image": place.digest or place.image}
    model_name = content_name(name, {**model, **image})
    host = _host_image(settings, place)
    instances = _instances(settings, host)
    variant = {"VariantName": VARIANT, "ModelName": model_name, **instances}
    config: dict[str, Any] = merged_request(
        {"ProductionVariants": [variant]}, shared, "CreateEndpointConfig"
    )
    config_name = content_name(name, config)
    tags = place.tags(digest_of({**config, **model, **image}), dict(shared.tags))
    target = {"EndpointName": name, "EndpointConfigName": config_name}
    delete = f"sagemaker delete-endpoint --endpoint-name {name}"
    steps = (
        _made(place, "Model", model_name, {**model, "Tags": tags}),
        _made(place, "EndpointConfig", config_name, {**config, "Tags": tags}),
        Step(
            makes=f"endpoint {name}",
            call=Call(
                "sagemaker",
                "CreateEndpoint",
                {**merged_request(target, shared, "CreateEndpoint"), "Tags": tags},
            ),
            look=Call("sagemaker", "DescribeEndpoint", {"EndpointName": name}),
            same={"EndpointConfigName": config_name},
            instead=Call(
                "sagemaker", "UpdateEndpoint", merged_request(target, shared, "UpdateEndpoint")
            ),
            dead={status: hint.format(delete=place.aws(delete)) for status, hint in _DEAD.items()},
            undo=place.aws(delete),
        ),
    )
    bucket = place.bucket_steps() if uploads else ()
    return Plan(
        kind="endpoint",
        name=name,
        region=place.region,
        steps=(*bucket, *uploads, *steps),
        cost=_cost(config["ProductionVariants"]),
        notes=(host.note,) if host.note else (),
    )


def _cost(variants: Sequence[Mapping[str, Any]]) -> str:
    """Return what will run, with the members that the user gave."""
    found = []
    for variant in variants:
        serverless = variant.get("ServerlessConfig")
        if serverless is None:
            count = variant.get("InitialInstanceCount", 1)
            found.append(f"{count} x {variant.get('InstanceType')}")
        else:
            memory, most = serverless.get("MemorySizeInMB"), serverless.get("MaxConcurrency")
            found.append(f"serverless, {memory} MB, {most} requests at a time, by the request")
    return f"{' and '.join(found)}, until it is deleted"


def _made(place: Place, kind: str, name: str, parameters: Mapping[str, Any]) -> Step:
    """Return the step that creates something that never changes under its name."""
    words = {"Model": "model", "EndpointConfig": "endpoint-config"}[kind]
    named = {f"{kind}Name": name}
    return Step(
        makes=f"{words.replace('-', ' ')} {name}",
        call=Call("sagemaker", f"Create{kind}", {**named, **parameters}),
        look=Call("sagemaker", f"Describe{kind}", named),
        undo=place.aws(f"sagemaker delete-{words} --{words}-name {name}"),
    )


def _model(
    settings: EndpointSettings, place: Place, artifact: str
) -> tuple[str, tuple[Upload, ...]]:
    if artifact or not settings.model:
        return artifact, ()
    if inputs.is_remote(settings.model):
        return settings.model, ()
    where, path = f"{settings.shared.where}: model", settings.shared.folder / settings.model
    prefix = f"{settings.shared.name}/model"
    upload = inputs.upload_model(where, path, place, prefix)
    return f"s3://{upload.bucket}/{upload.files[0].key}", (upload,)


def _host_image(settings: EndpointSettings, place: Place) -> Choice:
    shared = settings.shared
    if "ProductionVariants" in shared.request["CreateEndpointConfig"]:
        return Choice("", "")  # the user's own replace ours
    if place.endpoint:
        return Choice(settings.ami_version, "")  # the driver is this machine's
    return choose(shared.where, settings.ami_version, place.cuda, shared.instance_type)


def _instances(settings: EndpointSettings, host: Choice) -> dict[str, Any]:
    if settings.serverless is not None:
        return {"ServerlessConfig": dict(settings.serverless)}
    require_instance_type(settings.shared)
    found: dict[str, Any] = {
        "InstanceType": settings.shared.instance_type,
        "InitialInstanceCount": settings.shared.instance_count,
        "InitialVariantWeight": 1.0,
    }
    if host.name:
        found["InferenceAmiVersion"] = host.name
    if settings.startup_timeout is not None:
        key = "ContainerStartupHealthCheckTimeoutInSeconds"
        found[key] = settings.startup_timeout
    if settings.download_timeout is not None:
        found["ModelDataDownloadTimeoutInSeconds"] = settings.download_timeout
    return found


def artifact_of(where: str, job: str, caller: Caller) -> tuple[str, str]:
    """Return the job of this name, or the newest whose name begins with it, and its model's URI."""
    described = find(_describe(job), caller)
    if described is None:
        asked = {
            "NameContains": job,
            "StatusEquals": "Completed",
            "SortBy": "CreationTime",
            "SortOrder": "Descending",
            "MaxResults": 100,
        }
        listed = caller.call(Call("sagemaker", "ListTrainingJobs", asked))
        names = [entry["TrainingJobName"] for entry in listed["TrainingJobSummaries"]]
        newest = next((name for name in names if name.startswith(f"{job}-")), None)
        described = find(_describe(newest), caller) if newest else None
    if described is None:
        raise SettingsError(
            f"{where}: model: there is no training job {job!r}, and no completed one {job}-…",
            hint="Launch it first: byoc launch train --wait",
        )
    name, status = described["TrainingJobName"], described["TrainingJobStatus"]
    uri = described.get("ModelArtifacts", {}).get("S3ModelArtifacts", "")
    if status != "Completed" or not uri:
        state = status if status != "Completed" else "Completed without a model"
        raise SettingsError(
            f"{where}: model: training job {name} is {state}", hint="Name a job that made a model"
        )
    return str(name), str(uri)


def _describe(job: str) -> Call:
    return Call("sagemaker", "DescribeTrainingJob", {"TrainingJobName": job})
