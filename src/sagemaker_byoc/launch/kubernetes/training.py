"""The training image as a PyTorchJob of Kubeflow's training operator, and its job's files.

The hosts come from the variables that the operator sets (PET_*, RANK, MASTER_ADDR): there is no
resourceconfig.json. Shape: kubeflow.org/v1 of training-operator 1.9.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sagemaker_byoc.contract.channels import Channel
from sagemaker_byoc.contract.environment import TRAINING_JOB_NAME
from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.contract.hyperparameters import Hyperparameters
from sagemaker_byoc.contract.lifecycle import TRAIN_ARGUMENT, TRAIN_STOP_GRACE
from sagemaker_byoc.contract.masking import is_secret
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.launch.errors import SettingsError
from sagemaker_byoc.launch.kubernetes import pods
from sagemaker_byoc.launch.kubernetes.settings import (
    TRAIN_KEYS,
    Claim,
    PodSettings,
    claim,
    image,
    label,
    pod_table,
    read_pod,
)
from sagemaker_byoc.launch.names import content_name
from sagemaker_byoc.launch.train import TrainSettings

CONTAINER = "pytorch"
"""The operator looks for this name, and for the port's."""
PORT, PORT_NAME = 23456, "pytorchjob-port"
_TREE = Tree()


@dataclass(frozen=True, slots=True)
class _Job:
    settings: TrainSettings
    pod: PodSettings
    processes: str
    channels: dict[str, Claim]
    model: Claim | None
    checkpoints: Claim | None


def manifests(settings: TrainSettings) -> list[dict[str, Json]]:
    """A ConfigMap and the job. Raises SettingsError."""
    job = _read(settings)
    files: dict[str, Json] = {
        _TREE.hyperparameters_file.name: json.dumps(dict(settings.hyperparameters)),
        _TREE.input_data_config_file.name: json.dumps(
            {name: Channel(name).document() for name in job.channels}
        ),
    }
    stem = label(settings.shared)
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


def _read(settings: TrainSettings) -> _Job:
    table = pod_table(settings.shared, TRAIN_KEYS)
    pod = read_pod(table, settings.shared, user=None)
    Hyperparameters(settings.hyperparameters).check()
    if secret := [name for name in settings.hyperparameters if is_secret(name)]:
        raise SettingsError(
            f"{settings.shared.where}: hyperparameters.{secret[0]} is a secret by its name, and "
            "would stand in a ConfigMap",
            cure="Give it as environment: it is then taken from a Secret",
        )
    claims = {
        name: claim(pod.where, f"channels.{name}", text)
        for name, text in table.pairs("channels").items()
    }
    if missing := [name for name in settings.channels if name not in claims]:
        raise SettingsError(
            f"{pod.where}: channels.{missing[0]} is missing",
            cure=f'Write channels.{missing[0]} = "pvc:CLAIM/FOLDER": a pod reads volumes, not S3',
        )
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
        model=claim(pod.where, "model", pod.model) if pod.model else None,
        checkpoints=claim(pod.where, "checkpoints", checkpoints) if checkpoints else None,
    )


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
        "image": image(job.settings.shared),
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
