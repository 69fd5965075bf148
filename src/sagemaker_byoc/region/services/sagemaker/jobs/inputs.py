"""Which objects a channel consists of, under which names, and which of them a host gets."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeVar

from sagemaker_byoc.contract.training.channels import Distribution, InputMode
from sagemaker_byoc.region.services.s3.store.errors import S3Error
from sagemaker_byoc.region.services.s3.store.store import ObjectStore
from sagemaker_byoc.region.services.s3.store.uri import parse_s3_uri
from sagemaker_byoc.region.services.sagemaker.training_jobs.plan import ChannelPlan, DataType
from sagemaker_byoc.region.wire.errors import AwsError

T = TypeVar("T")

MANIFEST_LIMIT = 64 << 20
"""Bytes of a manifest; it is read at once."""


class DownloadError(Exception):
    """The input can't be brought to the job; SageMaker calls it a ClientError."""


@dataclass(frozen=True, slots=True)
class Item:
    """One object, and its name below the channel's folder."""

    bucket: str
    key: str
    relative: str


def find_items(store: ObjectStore, plan: ChannelPlan) -> list[Item]:
    """Of a channel of files, in the order of their keys, or of the manifest.

    Raises AwsError (ValidationException) where there are none, DownloadError for a bad manifest.
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
    # Object keys may be what no file system can hold; only in a pipe that does not matter.
    if plan.channel.mode is not InputMode.PIPE:
        check_paths(plan.uri, items)
    return items


def require_items(store: ObjectStore, plan: ChannelPlan) -> None:
    """As `find_items`, without a look at more than the first object of a prefix."""
    if plan.data_type is not DataType.PREFIX:
        find_items(store, plan)
    elif next(_of_prefix(store, plan), None) is None:
        raise no_objects(plan)


def find_lines(store: ObjectStore, plan: ChannelPlan) -> list[dict[str, object]]:
    """Of an augmented manifest."""
    lines: list[dict[str, object]] = []
    for number, text in enumerate(_read(store, plan).splitlines(), 1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError as error:
            raise DownloadError(f"line {number} of {plan.uri} is not JSON ({error})") from error
        missing = [name for name in plan.attributes if name not in line]
        if missing:
            raise DownloadError(f"line {number} of {plan.uri} has no attribute {missing[0]!r}")
        lines.append(line)
    return lines


def share(plan: ChannelPlan, items: Sequence[T], host: str, epoch: int = 0) -> list[T]:
    """What `host` gets of `items` in `epoch`: shuffled first, dealt like cards then."""
    mine = [*items]
    if plan.seed is not None:
        random.Random(f"{plan.seed}/{epoch}").shuffle(mine)  # noqa: S311 - an order, no secret
    if plan.channel.distribution is Distribution.SHARDED:
        return mine[plan.hosts.index(host) :: len(plan.hosts)]
    return mine


def no_objects(plan: ChannelPlan, why: str = "") -> AwsError:
    """In SageMaker's words."""
    return AwsError(
        "ValidationException",
        f'No S3 objects found under S3 URL "{plan.uri}" given in input data source. Please ensure '
        "that the bucket exists in the selected region, that objects exist under that S3 prefix, "
        f"and that the role has s3:ListBucket permissions on bucket '{plan.bucket}'."
        + (f" Error message from S3: {why}" if why else ""),
    )


def _of_prefix(store: ObjectStore, plan: ChannelPlan) -> Iterator[Item]:
    """Every key that begins with the prefix, whether or not that is where a folder ends."""
    if not store.has_bucket(plan.bucket):
        raise no_objects(plan, "The specified bucket does not exist")
    for info in store.list(plan.bucket, plan.key):
        relative = tail(plan.key, info.key)
        if info.key.endswith("/") or (
            # A mount shows folders, and half a name is none.
            plan.channel.mode is InputMode.FAST_FILE and not is_below(plan.key, info.key)
        ):
            continue
        yield Item(plan.bucket, info.key, relative)


def is_below(prefix: str, key: str) -> bool:
    """Whether `key` is `prefix`, or lies in the folder of that name."""
    return not prefix or key == prefix or key.startswith(prefix.rstrip("/") + "/")


def tail(prefix: str, key: str) -> str:
    """`a.csv` of prefix `data/train` and key `data/train/a.csv`; `train2/x` of `data/train2/x`."""
    rest = key[len(prefix) :]
    if rest.startswith("/"):
        return rest[1:]
    return key[prefix.rfind("/") + 1 :] if not prefix.endswith("/") else rest


def _of_manifest(store: ObjectStore, plan: ChannelPlan) -> list[Item]:
    try:
        document = json.loads(_read(store, plan))
    except ValueError as error:
        raise DownloadError(f"the manifest {plan.uri} is not JSON ({error})") from error
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
    """Raise DownloadError unless each object can be a file of its own in one folder."""
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
