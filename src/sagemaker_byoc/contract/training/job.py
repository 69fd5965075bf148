"""A training job as its container sees it: what it was given, and its program's environment.

What it was given are the three documented files, read once. The environment is the union of what
sagemaker-training and the SDK's v3 launcher set, so that a script written for either finds its
names. The platform itself sets only TRAINING_JOB_NAME, TRAINING_JOB_ARN and the request's own pairs
(developer guide: your-algorithms-training-algo-running-container); every SM_* name is a convention
of the two launchers (sagemaker-training 5.1.4 environment.py; SDK 3.20 container_drivers).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract import variables
from sagemaker_byoc.contract.files import Json, as_list
from sagemaker_byoc.contract.machine import Hardware
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import Channel, read_channels
from sagemaker_byoc.contract.training.cluster import Cluster
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters, as_text, is_reserved


@dataclass(frozen=True, slots=True)
class Command:
    """The user's program as it is started: `entry_point` of `source_dir`, with `arguments`."""

    entry_point: str
    source_dir: Path
    arguments: Sequence[str]


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that a training container was given."""

    tree: Tree
    hyperparameters: Hyperparameters
    channels: Mapping[str, Channel]
    cluster: Cluster

    @classmethod
    def read(cls, tree: Tree) -> Job:
        """Read the files, each of which may be absent. Raise DocumentError for a broken one."""
        return cls(
            tree=tree,
            hyperparameters=Hyperparameters.read(tree),
            channels=read_channels(tree),
            cluster=Cluster.read(tree),
        )


TRAINING_JOB_NAME = "TRAINING_JOB_NAME"
TRAINING_JOB_ARN = "TRAINING_JOB_ARN"
MASTER_PORT = 7777
"""Both launchers use this port between hosts."""
EVERYTHING = "SM_TRAINING_ENV"
LONGEST_STRING = 128 * 1024
"""Bytes of one argument or of one `NAME=value`, with a final NUL (Linux: MAX_ARG_STRLEN)."""
POINTER = 8
"""Bytes for the address of each argument and variable, which count too."""


def legal_name(text: str) -> str:
    """Return `text` as the end of a variable's name that a shell can set."""
    return re.sub(r"[^A-Z0-9_]", "_", text.upper())


def training_environment(
    job: Job, command: Command, hardware: Hardware, platform: Mapping[str, str]
) -> dict[str, str]:
    """Return the SM_* variables, and a few others, for the user's program.

    `platform` is the container's own environment; only names that it holds are read from it.
    """
    values = {
        **_cluster_values(job),
        **_path_values(job),
        **_program_values(job, command),
        "num_cpus": hardware.cpus,
        "num_gpus": hardware.gpus,
        "num_neurons": hardware.neurons,
    }
    values["training_env"] = _training_env(job, values, platform)
    environment = {f"SM_{name.upper()}": _encode(value) for name, value in values.items()}
    for name in job.channels:
        _set_both(environment, f"SM_CHANNEL_{name.upper()}", str(job.tree.channel(name)))
    for key, raw in job.hyperparameters.for_program():
        _set_both(environment, f"SM_HP_{key.upper()}", as_text(raw))
    environment = {name: text for name, text in environment.items() if "=" not in name}
    environment["CURRENT_HOST"] = job.cluster.current_host
    environment[variables.JOB_NAME] = _job_name(job, platform)
    region = job.hyperparameters.text("sagemaker_region") or platform.get("AWS_REGION", "")
    if region:
        environment[variables.REGION] = region
    return environment


def size_of(text: str) -> int:
    """Return the bytes that `text` takes among a program's arguments or variables."""
    return len(text.encode("utf-8", "surrogateescape")) + 1


def fit(environment: Mapping[str, str], room: int) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return what of `environment` fits into `room` bytes, and the names of what does not.

    Left out are strings that are too long for Linux (of SM_TRAINING_ENV only members), then the
    longest ones until the rest fits.
    """
    fitting = dict(environment)
    left: list[str] = []
    if size_of(f"{EVERYTHING}={fitting.get(EVERYTHING, '')}") > LONGEST_STRING:
        fitting[EVERYTHING], members = _shortened(fitting[EVERYTHING])
        left += (f"{EVERYTHING}: {member}" for member in members)
    sizes = {name: size_of(f"{name}={text}") for name, text in fitting.items()}
    total = sum(sizes.values()) + POINTER * len(sizes)
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        if size > LONGEST_STRING or total > room:
            total -= size + POINTER
            left.append(name)
            del fitting[name]
    return fitting, tuple(left)


def _shortened(text: str) -> tuple[str, list[str]]:
    """Return the JSON object in `text` without its longest members, and their names."""
    texts = {name: _encode(value) for name, value in json.loads(text).items()}
    members = json.loads(text)
    left = []
    for name in sorted(texts, key=lambda name: -len(texts[name])):
        if size_of(f"{EVERYTHING}={_encode(members)}") <= LONGEST_STRING:
            break
        left.append(name)
        del members[name]
    return _encode(members), left


def _cluster_values(job: Job) -> dict[str, Json]:
    cluster, decoded = job.cluster, job.hyperparameters.decoded()
    groups: list[Json] = [group.name for group in cluster.all_groups]
    values: dict[str, Json] = {
        "hosts": [*cluster.hosts],
        "host_count": len(cluster.hosts),
        "current_host": cluster.current_host,
        "current_host_rank": cluster.rank,
        "current_instance_type": cluster.current_instance_type,
        "current_instance_group": cluster.current_group,
        "current_instance_group_hosts": [*cluster.current_group_hosts],
        "instance_groups": groups,
        "instance_groups_dict": {group.name: group.document() for group in cluster.all_groups},
        "distribution_instance_groups": as_list(
            decoded.get("sagemaker_distribution_instance_groups")
        ),
        "is_hetero": cluster.is_heterogeneous,
        "network_interface_name": cluster.network_interface,
        "resource_config": cluster.document(),
        "master_addr": cluster.hosts[0],
        "master_port": MASTER_PORT,
    }
    if cluster.topology:
        values["topology"] = dict(cluster.topology)
    return values


def _path_values(job: Job) -> dict[str, Json]:
    tree = job.tree
    return {
        "input_dir": str(tree.input),
        "input_config_dir": str(tree.config),
        "input_data_dir": str(tree.data),
        "input_data_config": {name: entry.document() for name, entry in job.channels.items()},
        "channels": [*sorted(job.channels)],
        "model_dir": str(tree.model),
        "output_dir": str(tree.output),
        "output_data_dir": str(tree.output_data),
        "output_intermediate_dir": str(tree.output_intermediate),
        "output_failure": str(tree.failure),
    }


def _program_values(job: Job, command: Command) -> dict[str, Json]:
    decoded = job.hyperparameters.decoded()
    level = decoded.get("sagemaker_container_log_level")
    return {
        "hps": {key: value for key, value in decoded.items() if not is_reserved(key)},
        "user_args": [*command.arguments],
        "user_entry_point": command.entry_point,
        "entry_script": command.entry_point,
        "module_name": command.entry_point.removesuffix(".py"),
        "module_dir": str(command.source_dir),
        "source_dir": str(command.source_dir),
        "framework_module": "",
        # The reserved ones, for user code that looks for them.
        "framework_params": {key: value for key, value in decoded.items() if is_reserved(key)},
        "log_level": level if isinstance(level, int) else 20,
    }


def _training_env(job: Job, values: Mapping[str, Json], platform: Mapping[str, str]) -> Json:
    """Return SM_TRAINING_ENV: everything in one object, under the toolkit's key names."""
    renamed = {"hps": "hyperparameters", "framework_params": "additional_framework_parameters"}
    return {
        **{renamed.get(key, key): value for key, value in values.items()},
        "channel_input_dirs": {name: str(job.tree.channel(name)) for name in job.channels},
        "job_name": _job_name(job, platform),
        "is_master": job.cluster.rank == 0,
        "master_hostname": job.cluster.hosts[0],
    }


def _encode(value: Json) -> str:
    """Return text as it is, and all else as JSON; None becomes the empty string."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _set_both(environment: dict[str, str], name: str, value: str) -> None:
    """Set a variable under the toolkit's name and, if a shell can't set that, a legal one too."""
    environment[name] = value
    environment.setdefault(legal_name(name), value)


def _job_name(job: Job, platform: Mapping[str, str]) -> str:
    return platform.get(TRAINING_JOB_NAME) or job.hyperparameters.text("sagemaker_job_name") or ""
