"""A training job as its container sees it: the three documented files, read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import Channel, read_channels
from sagemaker_byoc.contract.training.cluster import Cluster
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the host offers to this container, in whole units."""

    cpus: int
    gpus: int
    neurons: int = 0


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
        """Each file may be absent; one that is broken raises DocumentError."""
        return cls(
            tree=tree,
            hyperparameters=Hyperparameters.read(tree),
            channels=read_channels(tree),
            cluster=Cluster.read(tree),
        )
