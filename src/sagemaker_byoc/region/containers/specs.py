"""The specification of a container: the same for a region, for `byoc train` and for `byoc serve`.

Each caller adds, with `dataclasses.replace`, only what its own request asks for: where the data
comes from and where results go. Everything else is decided here, so that a program can't tell who
started it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sagemaker_byoc.contract import lifecycle
from sagemaker_byoc.contract.files import Json, write_json
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training import environment, runs
from sagemaker_byoc.contract.training.channels import (
    Channel,
    write_channels,
)
from sagemaker_byoc.contract.training.cluster import Cluster
from sagemaker_byoc.contract.training.debugger import HOOK_FILE, PROFILER_FILE, TENSORBOARD_FILE
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters
from sagemaker_byoc.region.containers import instances
from sagemaker_byoc.region.containers.images import Image
from sagemaker_byoc.region.containers.leftovers import machine_label
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.engines.container import ContainerSpec, Network

JOB_LABEL = "sagemaker-byoc.job"


def platform(account: Account) -> dict[str, str]:
    """Return the variables that SageMaker sets in every container."""
    return {"AWS_REGION": account.region, "AWS_DEFAULT_REGION": account.region}


def job_network(
    name: str,
    job: str,
    hosts: tuple[str, ...],
    *,
    isolated: bool = False,
    labels: Mapping[str, str] | None = None,
) -> Network:
    """Return the network of one training job; its labels are those of the job's containers."""
    own = {**(labels or {}), **machine_label(), JOB_LABEL: job}
    return Network(name=name, hosts=hosts, isolated=isolated, labels=own)


def training(  # noqa: PLR0913 - each a part of the container, by its keyword
    *,
    job: str,
    account: Account,
    image: Image,
    tree: Tree,
    cluster: Cluster,
    network: Network,
    variables: Mapping[str, str],
    gpus: int,
) -> ContainerSpec:
    """`variables` are the request's own, which win; `gpus` is how many this machine has."""
    host = cluster.current_host
    instance = instances.on_this_machine(cluster.current_instance_type, gpus)
    return ContainerSpec(
        name=f"{network.name}-{host}",
        argument=lifecycle.TRAIN_ARGUMENT.value,
        tree=tree,
        environment={
            **image.environment,
            **platform(account),
            environment.TRAINING_JOB_NAME: job,
            environment.TRAINING_JOB_ARN: account.arn("sagemaker", f"training-job/{job}"),
            **({runs.IMAGE_DIGEST: image.resolved} if image.resolved else {}),
            **variables,
        },
        image=image.name,
        interpreter=image.interpreter,
        outputs=("model", "output"),
        hostname=host,
        network=network,
        gpus=instance.gpus,
        limits=instance.limits,
        labels=network.labels,
    )


def serving(  # noqa: PLR0913 - each a part of the container, by its keyword
    *,
    name: str,
    hostname: str,
    image: Image,
    tree: Tree,
    model: Path | None,
    port: int,
    variables: Mapping[str, str],
    labels: Mapping[str, str],
) -> ContainerSpec:
    """`model` is the folder that appears as /opt/ml/model; without one the model is empty."""
    tree.root.mkdir(parents=True)
    if model is None:
        tree.model.mkdir()
    return ContainerSpec(
        name=name,
        argument=lifecycle.SERVE_ARGUMENT.value,
        tree=tree,
        environment={**image.environment, **variables},
        image=image.name,
        interpreter=image.interpreter,
        inputs={} if model is None else {"model": model},
        read_only=frozenset({"model"}),
        port=port,
        hostname=hostname,
        labels=labels,
    )


CHECKPOINT_CONFIG = "checkpointconfig.json"


METRIC_CONFIG = "metric-definition-regex.json"


def write_config(
    tree: Tree,
    *,
    hyperparameters: Mapping[str, str],
    channels: Sequence[Channel],
    cluster: Cluster,
) -> None:
    """The folders and the three documented files, as a container of this host finds them."""
    for folder in tree.written_by_training:
        folder.mkdir(parents=True, exist_ok=True)
    tree.data.mkdir(parents=True, exist_ok=True)
    Hyperparameters(hyperparameters).write(tree)
    write_channels(tree, {channel.name: channel for channel in channels})
    cluster.write(tree)


def write_more_config(tree: Tree, request: Mapping[str, Json]) -> None:
    """The files that only some requests cause; names and shapes as seen in real jobs."""
    for member, name in (
        ("CheckpointConfig", CHECKPOINT_CONFIG),
        ("DebugHookConfig", HOOK_FILE),
        ("ProfilerConfig", PROFILER_FILE),
        ("TensorBoardOutputConfig", TENSORBOARD_FILE),
    ):
        document = request.get(member)
        if document:
            write_json(tree.config / name, document)
    algorithm = request.get("AlgorithmSpecification")
    definitions = algorithm.get("MetricDefinitions") if isinstance(algorithm, dict) else None
    write_json(tree.config / METRIC_CONFIG, definitions or [])


PRIMARY = "primary"
"""What SageMaker calls the container of a model that has only one."""
