"""The environment of a training program: the union of what sagemaker-training and the SDK's v3
launcher set, so that a script written for either finds its names.

The platform itself sets only TRAINING_JOB_NAME, TRAINING_JOB_ARN and the request's own pairs
(developer guide: your-algorithms-training-algo-running-container); every SM_* name is a convention
of the two launchers (sagemaker-training 5.1.4 environment.py; SDK 3.20 container_drivers).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract.channels import Channel, read_channels
from sagemaker_byoc.contract.cluster import Cluster
from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.contract.hyperparameters import Hyperparameters, is_reserved
from sagemaker_byoc.contract.paths import Tree

TRAINING_JOB_NAME = "TRAINING_JOB_NAME"
TRAINING_JOB_ARN = "TRAINING_JOB_ARN"
PROGRAM = "SAGEMAKER_PROGRAM"
SUBMIT_DIRECTORY = "SAGEMAKER_SUBMIT_DIRECTORY"
MASTER_PORT = 7777
"""Both launchers use this port between hosts."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the host offers to this container, in whole units."""

    cpus: int
    gpus: int
    neurons: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that a training container was given, read once from its tree."""

    tree: Tree
    hyperparameters: Hyperparameters
    channels: Mapping[str, Channel]
    cluster: Cluster

    @classmethod
    def read(cls, tree: Tree) -> Job:
        """Read the three documented files, each of which may be absent."""
        return cls(
            tree=tree,
            hyperparameters=Hyperparameters.read(tree),
            channels=read_channels(tree),
            cluster=Cluster.read(tree),
        )


def legal_name(text: str) -> str:
    """`text` as the tail of a variable that a shell can set."""
    return re.sub(r"[^A-Z0-9_]", "_", text.upper())


def training_environment(
    job: Job,
    *,
    entry_point: str,
    source_dir: Path,
    arguments: Sequence[str],
    hardware: Hardware,
    platform: Mapping[str, str],
) -> dict[str, str]:
    """The SM_* variables (and their few companions) for the user's program.

    `platform` is the container's own environment; only names that it holds are read from it.
    """
    values = _values(job, entry_point, source_dir, arguments, hardware)
    values["training_env"] = _training_env(job, values, entry_point, source_dir, platform)
    environment = {f"SM_{name.upper()}": _encode(value) for name, value in values.items()}
    for name in job.channels:
        _set_both(environment, f"SM_CHANNEL_{name.upper()}", str(job.tree.channel(name)))
    for key, value in job.hyperparameters.decoded().items():
        if not is_reserved(key):
            _set_both(environment, f"SM_HP_{key.upper()}", _encode(value))
    environment["CURRENT_HOST"] = job.cluster.current_host
    environment["SAGEMAKER_JOB_NAME"] = _job_name(job, platform)
    region = job.hyperparameters.text("sagemaker_region") or platform.get("AWS_REGION", "")
    if region:
        environment["SAGEMAKER_REGION"] = region
    return environment


def _values(
    job: Job,
    entry_point: str,
    source_dir: Path,
    arguments: Sequence[str],
    hardware: Hardware,
) -> dict[str, Json]:
    tree, cluster = job.tree, job.cluster
    groups: list[Json] = [group.name for group in cluster.all_groups]
    values: dict[str, Json] = {
        "hosts": list(cluster.hosts),
        "host_count": len(cluster.hosts),
        "current_host": cluster.current_host,
        "current_host_rank": cluster.rank,
        "current_instance_type": cluster.current_instance_type,
        "current_instance_group": cluster.current_group,
        "current_instance_group_hosts": list(cluster.current_group_hosts),
        "instance_groups": groups,
        "instance_groups_dict": {
            group.name: {
                "instance_group_name": group.name,
                "instance_type": group.instance_type,
                "hosts": list(group.hosts),
            }
            for group in cluster.all_groups
        },
        "distribution_instance_groups": _distribution_groups(job),
        "is_hetero": cluster.is_heterogeneous,
        "network_interface_name": cluster.network_interface,
        "resource_config": cluster.document(),
        "master_addr": cluster.hosts[0],
        "master_port": MASTER_PORT,
        "num_cpus": hardware.cpus,
        "num_gpus": hardware.gpus,
        "num_neurons": hardware.neurons,
        "input_dir": str(tree.input),
        "input_config_dir": str(tree.config),
        "input_data_dir": str(tree.data),
        "input_data_config": {name: entry.document() for name, entry in job.channels.items()},
        "model_dir": str(tree.model),
        "module_dir": str(source_dir),
        "source_dir": str(source_dir),
        "output_dir": str(tree.output),
        "output_data_dir": str(tree.output_data),
        "output_intermediate_dir": str(tree.output_intermediate),
        "output_failure": str(tree.failure),
        "channels": sorted(job.channels),
        "hps": _user_hyperparameters(job),
        "user_args": list(arguments),
        "user_entry_point": entry_point,
        "entry_script": entry_point,
        "module_name": _module_name(entry_point),
        "framework_module": "",
        "framework_params": _framework_params(job),
        "log_level": _log_level(job),
    }
    if cluster.topology:
        values["topology"] = dict(cluster.topology)
    return values


def _training_env(
    job: Job,
    values: Mapping[str, Json],
    entry_point: str,
    source_dir: Path,
    platform: Mapping[str, str],
) -> Json:
    """SM_TRAINING_ENV: everything in one object, under the toolkit's key names."""
    own = {"hps", "user_args", "framework_params", "output_failure", "entry_script"}
    return {
        **{key: value for key, value in values.items() if key not in own},
        "additional_framework_parameters": values["framework_params"],
        "hyperparameters": values["hps"],
        "channel_input_dirs": {name: str(job.tree.channel(name)) for name in job.channels},
        "user_entry_point": entry_point,
        "module_dir": str(source_dir),
        "job_name": _job_name(job, platform),
        "is_master": job.cluster.rank == 0,
        "master_hostname": job.cluster.hosts[0],
    }


def _encode(value: Json) -> str:
    """Text as it is, all else as JSON; None and the empty list as the launchers write them."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _set_both(environment: dict[str, str], name: str, value: str) -> None:
    """Under the toolkit's own name and, where a shell can't set that, under a legal one too."""
    environment[name] = value
    environment.setdefault(legal_name(name), value)


def _user_hyperparameters(job: Job) -> dict[str, Json]:
    decoded = job.hyperparameters.decoded()
    return {key: value for key, value in decoded.items() if not is_reserved(key)}


def _framework_params(job: Job) -> dict[str, Json]:
    """The reserved ones, for user code that looks for them."""
    decoded = job.hyperparameters.decoded()
    return {key: value for key, value in decoded.items() if is_reserved(key)}


def _distribution_groups(job: Job) -> Json:
    value = job.hyperparameters.decoded().get("sagemaker_distribution_instance_groups")
    return value if isinstance(value, list) else []


def _module_name(entry_point: str) -> str:
    return entry_point.removesuffix(".py")


def _log_level(job: Job) -> int:
    value = job.hyperparameters.decoded().get("sagemaker_container_log_level")
    return value if isinstance(value, int) else 20


def _job_name(job: Job, platform: Mapping[str, str]) -> str:
    return platform.get(TRAINING_JOB_NAME) or job.hyperparameters.text("sagemaker_job_name") or ""
