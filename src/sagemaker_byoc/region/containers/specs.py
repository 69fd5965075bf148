"""The specification of a container: the same for a region, for `byoc train` and for `byoc serve`.

Each caller adds, with `dataclasses.replace`, only what its own request asks for: where the data
comes from and where results go. Everything else is decided here, so that a program can't tell who
started it: the GPUs, CPUs and memory of its instance type, its variables, and the configuration
files in its tree.

Source of the instance types: EC2's and SageMaker's pages (2026-11, from memory where a size is
derived: sizes of one family are multiples of its smallest). An unknown type has no limits.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract import facts, lifecycle
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.contract.files import Json, write_json
from sagemaker_byoc.contract.machine import (
    NVIDIA_PROC,
    hides_gpus,
    usable_cpus,
    usable_memory,
    visible_gpus,
)
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import Channel, write_channels
from sagemaker_byoc.contract.training.cluster import Cluster
from sagemaker_byoc.contract.training.debugger import HOOK_FILE, PROFILER_FILE, TENSORBOARD_FILE
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters
from sagemaker_byoc.contract.training.job import TRAINING_JOB_ARN, TRAINING_JOB_NAME
from sagemaker_byoc.contract.variables import IMAGE_DIGEST
from sagemaker_byoc.host import registry_images
from sagemaker_byoc.region.containers.leftovers import machine_label
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.engines.container import ContainerSpec, Limits, Network

JOB_LABEL = "sagemaker-byoc.job"
PRIMARY = "primary"
"""What SageMaker calls the container of a model that has only one."""
CHECKPOINT_CONFIG = "checkpointconfig.json"
METRIC_CONFIG = "metric-definition-regex.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What `ContainerSpec` needs to know of an image."""

    uri: str
    """As the request names it: DeployedImages.SpecifiedImage."""
    resolved: str
    """Pinned by its digest: DeployedImages.ResolvedImage."""
    digest: str
    """`sha256:…`"""
    name: str
    """The engine's own word for it."""
    interpreter: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of the image; a request's own win."""
    architecture: str = ""
    """`amd64`, `arm64`, …; empty if it is not known."""
    command: str = ""
    """`train` or `serve`: what a recorded image runs; empty if the engine knows the image's own."""
    pushed: PushedImage | None = field(default=None, repr=False)
    """Where `Images.bring` pulls it from; None if the engine has it already."""

    @classmethod
    def without_region(cls, name: str) -> Image:
        """Return the image of `byoc train` and `byoc serve`: the engine's own, or this Python."""
        return cls(uri=name, resolved="", digest="", name=name, interpreter=Path(sys.executable))

    def machine_warning(self, instance_types: Iterable[str]) -> str:
        """Return a sentence for the log if SageMaker's instances could not run the image."""
        fault = registry_images.machine_fault(self.architecture, instance_types)
        if fault is None:
            return ""
        return f"warning: the image {fault.what}: SageMaker could not run it. {fault.hint}"


@dataclass(frozen=True, slots=True)
class PushedImage:
    """An image in the region's own registry, and where the engine pulls it from."""

    digest: str
    media_type: str
    manifest: Mapping[str, Any]
    architecture: str
    """Empty if its configuration does not say."""
    host: str
    """HOST:PORT of the registry."""
    token: str
    """base64 of USER:PASSWORD, for that host."""


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


def write_config(
    tree: Tree,
    *,
    hyperparameters: Mapping[str, str],
    channels: Sequence[Channel],
    cluster: Cluster,
) -> None:
    """Write the folders and the three documented files that a container of this host finds."""
    for folder in tree.written_by_training:
        folder.mkdir(parents=True, exist_ok=True)
    tree.data.mkdir(parents=True, exist_ok=True)
    Hyperparameters(hyperparameters).write(tree)
    write_channels(tree, {channel.name: channel for channel in channels})
    cluster.write(tree)


def write_more_config(tree: Tree, request: Mapping[str, Json]) -> None:
    """Write the files that only some requests cause; names and shapes are those of real jobs."""
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


def training(  # noqa: PLR0913 - each a part of the container, by its keyword
    *,
    job: str,
    account: Account,
    image: Image,
    tree: Tree,
    cluster: Cluster,
    network: Network,
    variables: Mapping[str, str],
) -> ContainerSpec:
    """Return a training container. `variables` are the request's own, which win."""
    host = cluster.current_host
    instance = instance_here(cluster.current_instance_type, gpus_here())
    return ContainerSpec(
        name=f"{network.name}-{host}",
        argument=lifecycle.TRAIN_ARGUMENT.value,
        tree=tree,
        environment={
            **image.environment,
            **platform(account),
            TRAINING_JOB_NAME: job,
            TRAINING_JOB_ARN: account.arn("sagemaker", f"training-job/{job}"),
            **({IMAGE_DIGEST: image.resolved} if image.resolved else {}),
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


def processing(  # noqa: PLR0913 - each a part of the container, by its keyword
    *,
    account: Account,
    image: Image,
    tree: Tree,
    host: str,
    instance_type: str,
    network: Network,
    variables: Mapping[str, str],
) -> ContainerSpec:
    """Return a processing container. It runs the image's own command, with no word added.

    Only files name its job: SageMaker documents no variables but the request's own, which win.
    """
    instance = instance_here(instance_type, gpus_here())
    return ContainerSpec(
        name=f"{network.name}-{host}",
        argument=image.command,
        tree=tree,
        environment={**image.environment, **platform(account), **variables},
        image=image.name,
        interpreter=image.interpreter,
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
    """Return a serving container. `model` appears as /opt/ml/model, which is empty without one."""
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


def check_name(kind: str, name: str) -> None:
    """Raise RequestError unless `name` may be that of a `kind`: a job, an endpoint."""
    if not re.fullmatch(facts.JOB_NAME.value, name):
        raise RequestError(
            f"{name!r} is not a legal {kind} name",
            hint=f"Use up to {facts.JOB_NAME_LENGTH.value} letters, digits and hyphens",
        )


_GIB = 2**30
_SIZES = {"large": 2, "xlarge": 4}
"""vCPUs; `Nxlarge` has 4 N."""
_GIB_PER_CPU = {"c": 2, "m": 4, "r": 8}
_BURSTABLE = {"medium": (2, 4), "large": (2, 8), "xlarge": (4, 16), "2xlarge": (8, 32)}

_ONE_TO_EIGHT = {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8}
_TWO_TO_EIGHT = {"12xlarge": 2, "24xlarge": 4, "48xlarge": 8}
_GPUS: dict[str, dict[str, int]] = {
    "g4dn": {"12xlarge": 4, "metal": 8},
    "g5": _ONE_TO_EIGHT,
    "g6": _ONE_TO_EIGHT,
    "g6e": _ONE_TO_EIGHT,
    "g7": _TWO_TO_EIGHT,
    "g7e": _TWO_TO_EIGHT,
    "p2": {"8xlarge": 8, "16xlarge": 16},
    "p3": {"8xlarge": 4, "16xlarge": 8},
    "p3dn": {"24xlarge": 8},
    "p4d": {"24xlarge": 8},
    "p4de": {"24xlarge": 8},
    "p5": {"48xlarge": 8},
    "p5e": {"48xlarge": 8},
    "p5en": {"48xlarge": 8},
    "p6-b200": {"48xlarge": 8},
    "p6-b300": {"48xlarge": 8},
    "p6e-gb200": {"36xlarge": 4},
}
"""By family, the sizes that have more than one GPU."""


@dataclass(frozen=True, slots=True)
class Instance:
    gpus: int | None
    """None for a type that is not AWS's (`local`, `local_gpu`): it has all of this machine's."""
    limits: Limits | None


def gpus_here() -> int:
    """Return the number of NVIDIA GPUs that this process may use, by its variables.

    /proc is read rather than device files: a region in a container may lack those that its engine
    has.
    """
    if hides_gpus(os.environ):
        return 0
    return len(visible_gpus(os.environ)) or len([*NVIDIA_PROC.glob("*")])


def describe_instance(instance_type: str) -> Instance:
    """Return what `ml.FAMILY.SIZE` has; any other name stands for this machine without limits."""
    found = re.fullmatch(r"ml\.([a-z0-9-]+)\.([a-z0-9-]+)", instance_type)
    if found is None:
        return Instance(None, None)
    family, size = found.groups()
    if family in _GPUS:
        return Instance(_GPUS[family].get(size, 1), None)
    return Instance(0, _limits(family, size))


def instance_here(instance_type: str, gpus: int) -> Instance:
    """Return what `describe_instance` does, limited to this machine's `gpus`, CPUs and memory."""
    instance = describe_instance(instance_type)
    limits = instance.limits
    if limits is not None:
        cpus = usable_cpus()
        memory = usable_memory()
        limits = Limits(min(limits.cpus, cpus), min(limits.memory, memory))
    return Instance(None if instance.gpus is None else min(instance.gpus, gpus), limits)


def _limits(family: str, size: str) -> Limits | None:
    if family in {"t2", "t3"}:
        cpus, memory = _BURSTABLE.get(size, (0, 0))
        return Limits(cpus, memory * _GIB) if cpus else None
    many = re.fullmatch(r"([0-9]+)xlarge", size)
    cpus = 4 * int(many[1]) if many else _SIZES.get(size, 0)
    ratio = _GIB_PER_CPU.get(family[:1])
    return Limits(cpus, cpus * ratio * _GIB) if cpus and ratio else None
