"""inputdataconfig.json: the channels of a job.

Only four keys reach the container (developer guide:
your-algorithms-training-algo-running-container); unknown ones are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from sagemaker_byoc.contract import facts
from sagemaker_byoc.contract.errors import DocumentError
from sagemaker_byoc.contract.files import Json, read_object, write_json
from sagemaker_byoc.contract.paths import Tree

MANIFEST_SUFFIX = "-manifest"
"""Suffix of a file that some channels have beside their folder in File mode."""

LOST_AND_FOUND = "lost+found"
"""A folder that every new ext file system has."""


class InputMode(StrEnum):
    FILE = "File"
    FAST_FILE = "FastFile"
    PIPE = "Pipe"


class Distribution(StrEnum):
    REPLICATED = "FullyReplicated"
    SHARDED = "ShardedByS3Key"


class RecordWrapper(StrEnum):
    NONE = "None"
    RECORD_IO = "RecordIO"


Choice = TypeVar("Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel as the container sees it."""

    name: str
    mode: InputMode = InputMode.FILE
    distribution: Distribution = Distribution.REPLICATED
    record_wrapper: RecordWrapper = RecordWrapper.NONE
    content_type: str | None = None

    def __post_init__(self) -> None:
        if not is_channel_name(self.name):
            raise DocumentError(
                where=f"channel {self.name!r}",
                what="is not a legal channel name",
                hint=f"Use 1 to {facts.CHANNEL_NAME_LENGTH.value} letters, digits, . - _",
            )

    def document(self) -> dict[str, Json]:
        """Return the JSON object of this channel; ContentType only if one was given."""
        content = {} if self.content_type is None else {"ContentType": self.content_type}
        return {
            **content,
            "TrainingInputMode": self.mode.value,
            "S3DistributionType": self.distribution.value,
            "RecordWrapperType": self.record_wrapper.value,
        }


def is_channel_name(text: str) -> bool:
    # "." and ".." satisfy SageMaker's pattern, and as folder names they leave the data folder.
    if text in {".", ".."} or len(text) > facts.CHANNEL_NAME_LENGTH.value:
        return False
    return re.fullmatch(facts.CHANNEL_NAME.value, text) is not None


def read_channels(tree: Tree) -> dict[str, Channel]:
    """Return the declared channels; if no file declares any, the folders under input/data."""
    path = tree.input_data_config_file
    document = read_object(path)
    if document is None:
        return {name: Channel(name) for name in _folders(tree.data)}
    channels = {}
    for name, value in document.items():
        entry = {} if value is None else value
        if not isinstance(entry, dict):
            raise DocumentError(
                where=f"{path}: {name!r}",
                what=f"is a {type(entry).__name__}, not an object",
                hint='Write {"TrainingInputMode": "File"} or more',
            )
        where = f"{path}: {name!r}"
        content_type = entry.get("ContentType")
        channels[name] = Channel(
            name,
            mode=_choice(InputMode, entry, "TrainingInputMode", where),
            distribution=_choice(Distribution, entry, "S3DistributionType", where),
            record_wrapper=_choice(RecordWrapper, entry, "RecordWrapperType", where),
            content_type=content_type if isinstance(content_type, str) else None,
        )
    return channels


def check_channels(channels: Mapping[str, Channel]) -> None:
    """Raise DocumentError for what CreateTrainingJob would refuse."""
    if len(channels) > facts.CHANNELS.value:
        raise DocumentError(
            where="channels",
            what=f"{len(channels)} given, SageMaker takes {facts.CHANNELS.value} at most",
            hint="Put several data sets into one channel, a folder each",
        )


def write_channels(tree: Tree, channels: Mapping[str, Channel]) -> None:
    check_channels(channels)
    write_json(
        tree.input_data_config_file,
        {name: channel.document() for name, channel in channels.items()},
    )


def _folders(data: Path) -> list[str]:
    if not data.is_dir():
        return []
    return sorted(
        entry.name for entry in data.iterdir() if entry.is_dir() and entry.name != LOST_AND_FOUND
    )


def _choice(kind: type[Choice], entry: Mapping[str, Json], key: str, where: str) -> Choice:
    """Return the member of `kind` under `key`; its first member if the key is absent or null."""
    value = entry.get(key)
    choices = list(kind)
    if value is None:
        return choices[0]
    for choice in choices:
        if choice.value == value:
            return choice
    raise DocumentError(
        where=f"{where}: {key}",
        what=f"has value {value!r}",
        hint=f"Use one of {', '.join(choice.value for choice in choices)}",
    )
