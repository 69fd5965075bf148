"""A host's tree before its container starts: configuration files, channels, checkpoints."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract.files import Json, write_json
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import (
    MANIFEST_SUFFIX,
    Channel,
    InputMode,
    write_channels,
)
from sagemaker_byoc.contract.training.cluster import Cluster
from sagemaker_byoc.contract.training.debugger import HOOK_FILE, PROFILER_FILE, TENSORBOARD_FILE
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters
from sagemaker_byoc.region.engines.container import Engine
from sagemaker_byoc.region.services.s3.store.errors import S3Error
from sagemaker_byoc.region.services.s3.store.store import ObjectStore
from sagemaker_byoc.region.services.sagemaker.jobs.inputs import DownloadError, Item, share
from sagemaker_byoc.region.services.sagemaker.training_jobs.plan import ChannelPlan

CHECKPOINT_CONFIG = "checkpointconfig.json"
METRIC_CONFIG = "metric-definition-regex.json"
# <linux/fs.h>: share the blocks of another file until one of the two is written to.
_FICLONE = 0x40049409


@dataclass(frozen=True, slots=True)
class Staged:
    """What of a host's channels its container is shown in another way than in its tree."""

    inputs: Mapping[str, Path]
    read_only: frozenset[str]
    shared: tuple[str, ...]


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


class Stager:
    """Brings the channels of one job to its hosts.

    Where a container writes into the host's own files it gets copies of its own, for a program may
    change its input in File mode. Everything else is linked, below `folder`.
    """

    def __init__(
        self, store: ObjectStore, folder: Path, engine: Engine, *, is_stopped: Callable[[], bool]
    ) -> None:
        self._store = store
        self._folder = folder
        self._copies = engine.shares_files
        self._bring = link_file if engine.protects_inputs else copy_file
        self._is_stopped = is_stopped

    def stage(
        self, tree: Tree, host: str, channels: Sequence[tuple[ChannelPlan, Sequence[Item]]]
    ) -> Staged:
        """Raises DownloadError."""
        inputs: dict[str, Path] = {}
        read_only = set()
        mine = [(plan, items) for plan, items in channels if host in plan.hosts]
        pipes = any(plan.channel.mode is InputMode.PIPE for plan, _ in mine)
        for plan, items in mine:
            if plan.channel.mode is InputMode.PIPE:
                continue
            name = plan.channel.name
            taken = share(plan, items, host)
            relative = str(tree.channel(name).relative_to(tree.root))
            if plan.channel.mode is InputMode.FAST_FILE:
                read_only.add(relative)
                inputs[relative] = self._link(plan, host, taken)
                continue
            # A folder that host and container share holds files, and no links into the store.
            if self._copies or pipes:
                self._fill(tree.channel(name), taken, copy_file)
            else:
                inputs[relative] = self._link(plan, host, taken)
            _write_manifest(tree, plan, taken)
        shared = (str(tree.data.relative_to(tree.root)),) if pipes else ()
        return Staged(inputs, frozenset(read_only), shared)

    def _link(self, plan: ChannelPlan, host: str, items: Sequence[Item]) -> Path:
        folder = self._folder / plan.channel.name / host
        self._fill(folder, items, self._bring)
        return folder

    def _fill(
        self, folder: Path, items: Sequence[Item], bring: Callable[[Path, Path], None]
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for item in items:
            if self._is_stopped():
                return
            target = folder / item.relative
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                bring(self._store.get(item.bucket, item.key).path, target)
            except S3Error as error:
                raise DownloadError(
                    f"{error.code} for s3://{item.bucket}/{item.key}: {error.message}"
                ) from error
            except OSError as error:
                raise DownloadError(
                    f"s3://{item.bucket}/{item.key}: {error.strerror or error}"
                ) from error


def copy_file(source: Path, target: Path) -> None:
    """A file of its own, writable; sharing blocks where the file system can."""
    with open(source, "rb") as file, open(target, "wb") as copy:
        try:
            fcntl.ioctl(copy, _FICLONE, file.fileno())
        except OSError:
            shutil.copyfileobj(file, copy, 1 << 20)


def link_file(source: Path, target: Path) -> None:
    """The same file, which is never written to; a copy on another file system."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        copy_file(source, target)
        with suppress(PermissionError):  # a file system without modes
            target.chmod(0o444)


def _write_manifest(tree: Tree, plan: ChannelPlan, items: Sequence[Item]) -> None:
    """`<channel>-manifest`, beside the folder: what was brought."""
    prefix = f"s3://{items[0].bucket if items else plan.bucket}/"
    document: list[Json] = [{"prefix": prefix}, *(item.key for item in items)]
    name = f"{plan.channel.name}{MANIFEST_SUFFIX}"
    (tree.data / name).parent.mkdir(parents=True, exist_ok=True)
    write_json(tree.data / name, document)
