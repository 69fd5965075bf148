"""The training image as a PyTorchJob of Kubeflow's training operator, and its job's files.

The hosts come from the variables that the operator sets (PET_*, RANK, MASTER_ADDR): there is no
resourceconfig.json. Shape: kubeflow.org/v1 of training-operator 1.9.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sagemaker_byoc.contract import facts
from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.contract.lifecycle import TRAIN_ARGUMENT, TRAIN_STOP_GRACE
from sagemaker_byoc.contract.masking import is_secret
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import Channel, is_channel_name
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters
from sagemaker_byoc.contract.training.job import TRAINING_JOB_NAME
from sagemaker_byoc.launch.inputs import content_name
from sagemaker_byoc.launch.kubernetes import pods
from sagemaker_byoc.launch.kubernetes.pods import (
    LONGEST_DEADLINE,
    TRAIN_KEYS,
    Claim,
    PodSettings,
    check_common,
    claim,
    label,
    pod_table,
    read_pod,
    refuse_variables,
)
from sagemaker_byoc.launch.table import Problems, SettingsError
from sagemaker_byoc.launch.train import TrainSettings

CONTAINER = "pytorch"
"""The operator looks for this name, and for the port's."""
PORT, PORT_NAME = 23456, "pytorchjob-port"
_TREE = Tree()
_OPERATORS = (
    "MASTER_ADDR",
    "MASTER_PORT",
    "PET_MASTER_ADDR",
    "PET_MASTER_PORT",
    "PET_NNODES",
    "PET_NODE_RANK",
    "PET_NPROC_PER_NODE",
    "RANK",
    "WORLD_SIZE",
)
"""Each is appended to the container's own, so that it wins (training-operator: envvar.go)."""
UNUSED = (
    "bucket", "checkpoints", "instance-type", "max-wait", "metrics", "output", "region", "request",
    "role", "security-groups", "spot", "subnets", "tags", "volume-gb",
)  # fmt: skip
"""Keys of the table that only SageMaker has a use for; `kubernetes` has its own `checkpoints`."""
_LARGEST_CONFIG = 2**20
"""Bytes of names and values (kubernetes: core.MaxSecretSize, also for a ConfigMap)."""


@dataclass(frozen=True, slots=True)
class _Job:
    settings: TrainSettings
    pod: PodSettings
    processes: str
    channels: dict[str, Claim]
    model: Claim | None
    checkpoints: Claim | None


def manifests(settings: TrainSettings, problems: Problems | None = None) -> list[dict[str, Json]]:
    """Return a ConfigMap and the job.

    Raise SettingsError with all that is wrong, what `problems` has already included.
    """
    found = Problems() if problems is None else problems
    stem = label(settings.shared, found)
    job = _read(settings, stem, found)
    found.check(settings.shared.where)
    files: dict[str, Json] = {**_files(settings, job)}
    spec = _spec(job, "")
    name = content_name(stem, {"files": files, "spec": spec})
    config: dict[str, Json] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": pods.metadata(name, job.pod),
        "data": files,
    }
    pytorchjob: dict[str, Json] = {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": pods.metadata(name, job.pod),
        "spec": _spec(job, name),
    }
    return [config, pytorchjob]


def _files(settings: TrainSettings, job: _Job) -> dict[str, str]:
    channels = {name: Channel(name).document() for name in job.channels}
    files = {
        _TREE.hyperparameters_file.name: json.dumps(dict(settings.hyperparameters)),
        _TREE.input_data_config_file.name: json.dumps(channels),
    }
    if (size := sum(len(name) + len(text) for name, text in files.items())) > _LARGEST_CONFIG:
        raise SettingsError(
            f"{settings.shared.where}: hyperparameters have {size} bytes as JSON, and a ConfigMap "
            f"holds {_LARGEST_CONFIG}",
            hint="Put long text into a file of a channel",
        )
    return files


def _read(settings: TrainSettings, stem: str, problems: Problems) -> _Job:
    shared = settings.shared
    check_common(shared, problems)
    table = pod_table(shared, TRAIN_KEYS, problems)
    pod = read_pod(table, shared, stem, user=None)
    _check_hyperparameters(settings, problems)
    if settings.max_runtime > LONGEST_DEADLINE:
        place, hint = f"{shared.where}: max-runtime", f"Use {LONGEST_DEADLINE} at most"
        problems.report(place, f"is {settings.max_runtime} seconds", hint)
    hint = "Leave it out; kubernetes.processes is PET_NPROC_PER_NODE"
    refuse_variables(shared, problems, _OPERATORS, "set by the training operator", hint)
    claims = {
        name: claim(table, f"channels.{name}", text)
        for name, text in table.pairs("channels").items()
    }
    for name in [*settings.channels, *claims]:
        place = f"{pod.where}: channels.{name}"
        if not is_channel_name(name):
            hint = (
                f"Use 1 to {facts.CHANNEL_NAME_LENGTH.value} characters; "
                f"the pattern is {facts.CHANNEL_NAME.value}"
            )
            problems.report(place, "is not a channel's name", hint)
        elif name not in claims:
            hint = f'Write channels.{name} = "pvc:CLAIM/FOLDER": a pod reads volumes, not S3'
            problems.report(place, "is missing", hint)
    processes = table.value("processes")
    if processes is None:
        processes = "auto"
    elif processes not in ("auto", "gpu", "cpu"):
        processes = table.number("processes", 1)
    checkpoints = table.text("checkpoints")
    return _Job(
        settings=settings,
        pod=pod,
        processes=str(processes),
        channels=claims,
        model=claim(table, "model", pod.model) if pod.model else None,
        checkpoints=claim(table, "checkpoints", checkpoints) if checkpoints else None,
    )


def _check_hyperparameters(settings: TrainSettings, problems: Problems) -> None:
    where = settings.shared.where
    try:
        Hyperparameters(settings.hyperparameters).check()
    except ContractError as error:
        place = f"{where}: hyperparameters"
        problems.add(place, SettingsError(f"{place}: {error.what}", hint=error.hint))
    for name in filter(is_secret, settings.hyperparameters):
        what = "is a secret by its name, and would be readable in a ConfigMap"
        hint = "Give it as environment: it is then taken from a Secret"
        problems.report(f"{where}: hyperparameters.{name}", what, hint)


def _spec(job: _Job, name: str) -> dict[str, Json]:
    workers = job.settings.shared.instance_count - 1
    replicas: dict[str, Json] = {"Master": _replica(job, name, 1, is_master=True)}
    if workers:
        replicas["Worker"] = _replica(job, name, workers, is_master=False)
    return {
        "nprocPerNode": job.processes,
        "runPolicy": {
            "activeDeadlineSeconds": job.settings.max_runtime,
            "backoffLimit": 0,
            "cleanPodPolicy": "Running",  # those that ended keep their logs
        },
        "pytorchReplicaSpecs": replicas,
    }


def _replica(job: _Job, name: str, count: int, *, is_master: bool) -> dict[str, Json]:
    volumes = pods.Volumes()
    volumes.config(name, str(_TREE.config))
    for channel, place in job.channels.items():
        volumes.claim(place, str(_TREE.channel(channel)), read_only=True)
    # Every host writes a model folder; the first host's is the one that is kept.
    if job.model is not None and is_master:
        volumes.claim(job.model, str(_TREE.model), read_only=False)
    else:
        volumes.empty("model", str(_TREE.model))
    if job.checkpoints is not None:
        volumes.claim(job.checkpoints, str(_TREE.checkpoints), read_only=False)
    else:
        volumes.empty("checkpoints", str(_TREE.checkpoints))
    volumes.empty("output", str(_TREE.output))
    volumes.shared_memory()
    values = {TRAINING_JOB_NAME: name, **job.settings.shared.environment}
    container: dict[str, Json] = {
        "name": CONTAINER,
        "image": job.settings.shared.image,
        "args": [TRAIN_ARGUMENT.value],
        "ports": [{"name": PORT_NAME, "containerPort": PORT}],
        "env": pods.environment(values, job.pod),
        **pods.resources(job.pod),
        **pods.container_security(job.pod, read_only_root=False),
        "volumeMounts": volumes.mounts,
        # The cause of a failure is the last thing in the log.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    spec: dict[str, Json] = {
        **pods.pod_spec(job.pod),
        "terminationGracePeriodSeconds": TRAIN_STOP_GRACE.value,
        "containers": [container],
        "volumes": volumes.volumes,
    }
    return {"replicas": count, "restartPolicy": "Never", "template": {"spec": spec}}
