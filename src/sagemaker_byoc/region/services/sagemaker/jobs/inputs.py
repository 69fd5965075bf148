"""The input of a job: the objects of each channel, and the files that each host gets of them."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from sagemaker_byoc.contract.files import Json, write_json
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import (
    MANIFEST_SUFFIX,
    Channel,
    Distribution,
    InputMode,
)
from sagemaker_byoc.region.engines.container import Engine
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.s3.store.objects import S3Error, parse_s3_uri
from sagemaker_byoc.region.wire.operations import AwsError

T = TypeVar("T")
Choice = TypeVar("Choice", bound=StrEnum)

MANIFEST_LIMIT = 64 << 20
"""Bytes of a manifest; it is read at once."""
# <linux/fs.h>: share the blocks of another file until one of the two is written to.
_FICLONE = 0x40049409


class DownloadError(Exception):
    """The input can't be brought to the job, a ClientError in SageMaker's words."""


@dataclass(frozen=True, slots=True)
class Item:
    """One object, and its name below the channel's folder."""

    bucket: str
    key: str
    relative: str


def find_items(store: ObjectStore, plan: ChannelPlan) -> list[Item]:
    """Return the objects of a channel, in the order of their keys or of the manifest.

    Raise AwsError (ValidationException) if there are none, DownloadError for a bad manifest.
    """
    if plan.data_type is DataType.PREFIX:
        items = [*_of_prefix(store, plan)]
    elif plan.data_type is DataType.MANIFEST:
        items = _of_manifest(store, plan)
    else:
        items = [Item(plan.bucket, plan.key, "manifest")]
        _read(store, plan)
    if not items:
        raise no_objects(plan)
    # A key may be what no file system can hold. Only in a pipe that does not matter.
    if plan.channel.mode is not InputMode.PIPE:
        check_paths(plan.uri, items)
    return items


def require_items(store: ObjectStore, plan: ChannelPlan) -> None:
    """Raise what `find_items` would, looking at no more than the first object of a prefix."""
    if plan.data_type is not DataType.PREFIX:
        find_items(store, plan)
    elif next(_of_prefix(store, plan), None) is None:
        raise no_objects(plan)


def require_storage(
    store: ObjectStore, buckets: Mapping[str, str], channels: Iterable[ChannelPlan]
) -> None:
    """Raise AwsError for a bucket that is missing, by the member that names it, or for no input."""
    for where, bucket in buckets.items():
        if not store.has_bucket(bucket):
            text = f"{where}: there is no bucket {bucket!r}. Create it first"
            raise AwsError("ValidationException", text)
    for channel in channels:
        with suppress(DownloadError):  # the job reports it, as in the cloud
            require_items(store, channel)


def find_lines(store: ObjectStore, plan: ChannelPlan) -> list[dict[str, object]]:
    """Return the lines of an augmented manifest. Raise DownloadError."""
    lines: list[dict[str, object]] = []
    for number, text in enumerate(_read(store, plan).splitlines(), 1):
        if not text.strip():
            continue
        line = _parsed(text, f"line {number} of {plan.uri}")
        if not isinstance(line, dict):
            raise DownloadError(f"line {number} of {plan.uri} is not a JSON object")
        missing = [name for name in plan.attributes if name not in line]
        if missing:
            raise DownloadError(f"line {number} of {plan.uri} has no attribute {missing[0]!r}")
        lines.append(line)
    return lines


def share(plan: ChannelPlan, items: Sequence[T], host: str, epoch: int = 0) -> list[T]:
    """Return the share of `host` in `epoch`: `items` are shuffled, then dealt out in turn."""
    mine = [*items]
    if plan.seed is not None:
        random.Random(f"{plan.seed}/{epoch}").shuffle(mine)  # noqa: S311 - an order, no secret
    if plan.channel.distribution is Distribution.SHARDED:
        return mine[plan.hosts.index(host) :: len(plan.hosts)]
    return mine


def no_objects(plan: ChannelPlan, why: str = "") -> AwsError:
    """Return SageMaker's own refusal of a channel without objects."""
    return AwsError(
        "ValidationException",
        f'No S3 objects found under S3 URL "{plan.uri}" given in input data source. Please ensure '
        "that the bucket exists in the selected region, that objects exist under that S3 prefix, "
        f"and that the role has s3:ListBucket permissions on bucket '{plan.bucket}'."
        + (f" Error message from S3: {why}" if why else ""),
    )


def _of_prefix(store: ObjectStore, plan: ChannelPlan) -> Iterator[Item]:
    """Yield every key that begins with the prefix, even in the middle of a name."""
    if not store.has_bucket(plan.bucket):
        raise no_objects(plan, "The specified bucket does not exist")
    for info in store.list(plan.bucket, plan.key):
        relative = tail(plan.key, info.key)
        if info.key.endswith("/") or (
            # A mount shows folders, and half a name is not a folder.
            plan.channel.mode is InputMode.FAST_FILE and not is_below(plan.key, info.key)
        ):
            continue
        yield Item(plan.bucket, info.key, relative)


def is_below(prefix: str, key: str) -> bool:
    """Return whether `key` is `prefix` or is in the folder of that name."""
    return not prefix or key == prefix or key.startswith(prefix.rstrip("/") + "/")


def tail(prefix: str, key: str) -> str:
    """Return the name below a prefix: of `data/train`, `a.csv` for the key `data/train/a.csv`, and
    `train2/x` for `data/train2/x`.
    """
    rest = key[len(prefix) :]
    if rest.startswith("/"):
        return rest[1:]
    return key[prefix.rfind("/") + 1 :] if not prefix.endswith("/") else rest


def _of_manifest(store: ObjectStore, plan: ChannelPlan) -> list[Item]:
    document = _parsed(_read(store, plan), f"the manifest {plan.uri}")
    shape = 'write [{"prefix": "s3://BUCKET/PREFIX/"}, "KEY", …]'
    if not isinstance(document, list) or not document or not isinstance(document[0], dict):
        raise DownloadError(f"the manifest {plan.uri} has no prefix: {shape}")
    prefix = document[0].get("prefix")
    names = document[1:]
    if not isinstance(prefix, str) or not all(isinstance(name, str) for name in names):
        raise DownloadError(f"the manifest {plan.uri} is not a prefix and keys: {shape}")
    try:
        bucket, start = parse_s3_uri(prefix)
    except AwsError as error:
        raise DownloadError(f"the manifest {plan.uri}: {error.message}") from error
    return [Item(bucket, start + name, name) for name in names]


def _parsed(text: str, what: str) -> Any:
    """Raise DownloadError."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise DownloadError(f"{what} is not JSON ({error})") from error
    except RecursionError as error:
        raise DownloadError(f"{what} is nested too deeply") from error


def _read(store: ObjectStore, plan: ChannelPlan) -> str:
    try:
        stored = store.get(plan.bucket, plan.key)
    except S3Error as error:
        raise no_objects(plan, error.message) from error
    if stored.info.size > MANIFEST_LIMIT:
        raise DownloadError(f"the manifest {plan.uri} is over {MANIFEST_LIMIT >> 20} MiB")
    try:
        return stored.path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DownloadError(f"the manifest {plan.uri} can't be read: {error}") from error


def check_paths(uri: str, items: Sequence[Item]) -> None:
    """Raise DownloadError unless the objects can all be files of one folder."""
    files: set[PurePosixPath] = set()
    folders: set[PurePosixPath] = set()
    for item in items:
        path = PurePosixPath(item.relative)
        if path.is_absolute() or ".." in path.parts or "\0" in item.relative or not path.parts:
            raise DownloadError(f"s3://{item.bucket}/{item.key} leads outside the folder")
        if path in files:
            raise DownloadError(f"two objects of {uri} would be the file {path}")
        files.add(path)
        folders.update(path.parents)
    clash = files & folders
    if clash:
        raise DownloadError(f"{min(clash)} of {uri} is a file and also a folder")


def choice(kind: type[Choice], value: str, where: str) -> Choice:
    """Return the member of `kind` that `value` names. Raise AwsError if there is none."""
    for member in kind:
        if member.value == value:
            return member
    known = ", ".join(member.value for member in kind)
    raise AwsError("ValidationException", f"{where}: {value!r} is not one of {known}")


class DataType(StrEnum):
    PREFIX = "S3Prefix"
    MANIFEST = "ManifestFile"
    AUGMENTED = "AugmentedManifestFile"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelPlan:
    channel: Channel
    folder: str = ""
    """Where its files appear, relative to /opt/ml; the pipe of epoch 0 is beside it, FOLDER_0.
    Empty for objects that no container gets as files."""
    data_type: DataType
    uri: str
    bucket: str
    key: str
    """A prefix of keys, or the key of a manifest."""
    attributes: tuple[str, ...]
    """Attributes of an augmented manifest, in the order of the records."""
    gunzip: bool
    seed: int | None
    """For shuffling; None if the request does not ask for it."""
    hosts: tuple[str, ...]
    """The hosts that receive the channel."""


@dataclass(frozen=True, slots=True)
class Staged:
    """Folders of channels that are not in a host's tree, and how its container sees them."""

    inputs: Mapping[str, Path]
    read_only: frozenset[str]
    shared: tuple[str, ...]


class Stager:
    """Bring the channels of one job to its hosts.

    If containers write into this machine's own files they get copies, since a program may change
    its input in File mode. Everything else is linked, below `folder`.
    """

    def __init__(
        self,
        store: ObjectStore,
        folder: Path,
        engine: Engine,
        *,
        is_stopped: Callable[[], bool],
        has_manifests: bool = True,
    ) -> None:
        """`has_manifests`: whether the objects of a folder are listed in a file beside it."""
        self._store = store
        self._folder = folder
        self._copies = engine.shares_files
        self._bring = link_file if engine.protects_inputs else copy_file
        self._is_stopped = is_stopped
        self._has_manifests = has_manifests

    def stage(
        self, tree: Tree, host: str, channels: Sequence[tuple[ChannelPlan, Sequence[Item]]]
    ) -> Staged:
        """Raise DownloadError."""
        inputs: dict[str, Path] = {}
        read_only = set()
        mine = [(plan, items) for plan, items in channels if host in plan.hosts]
        pipes = {
            str(PurePosixPath(plan.folder).parent)
            for plan, _ in mine
            if plan.channel.mode is InputMode.PIPE
        }
        for folder in pipes:
            (tree.root / folder).mkdir(parents=True, exist_ok=True)
        for plan, items in mine:
            if plan.channel.mode is InputMode.PIPE:
                continue
            taken = share(plan, items, host)
            if plan.channel.mode is InputMode.FAST_FILE:
                read_only.add(plan.folder)
                inputs[plan.folder] = self._link(plan, host, taken)
                continue
            # A folder that host and container share holds copies, not links into the store.
            if self._copies or pipes:
                self._fill(tree.root / plan.folder, taken, copy_file)
            else:
                inputs[plan.folder] = self._link(plan, host, taken)
            if self._has_manifests:
                _write_manifest(tree, plan, taken)
        return Staged(inputs, frozenset(read_only), outermost(pipes))

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


def outermost(folders: Iterable[str]) -> tuple[str, ...]:
    """Return the folders that are not inside another one, sorted."""
    found = set(folders)
    return tuple(sorted(each for each in found if not found & set(_above(each))))


def _above(folder: str) -> Iterator[str]:
    return map(str, PurePosixPath(folder).parents)


def copy_file(source: Path, target: Path) -> None:
    """Make a writable copy, which shares blocks if the file system can."""
    with open(source, "rb") as file, open(target, "wb") as copy:
        try:
            fcntl.ioctl(copy, _FICLONE, file.fileno())
        except OSError:
            shutil.copyfileobj(file, copy, 1 << 20)


def link_file(source: Path, target: Path) -> None:
    """Link a file that is never written to; copy it to another file system."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        copy_file(source, target)
        with suppress(PermissionError):  # a file system without modes
            target.chmod(0o444)


def _write_manifest(tree: Tree, plan: ChannelPlan, items: Sequence[Item]) -> None:
    """Write `CHANNEL-manifest` beside the folder: the objects that were brought."""
    prefix = f"s3://{items[0].bucket if items else plan.bucket}/"
    document: list[Json] = [{"prefix": prefix}, *(item.key for item in items)]
    path = tree.root / f"{plan.folder}{MANIFEST_SUFFIX}"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, document)
