"""A channel as a script reads it: its files, or its records, in any input mode.

for record in channel("train").shard().records(): …
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import (
    Channel,
    Distribution,
    InputMode,
    RecordWrapper,
)
from sagemaker_byoc.training.library.data.records import AWS_JOINT, MXNET_JOINT, Framing, split
from sagemaker_byoc.training.library.data.sources import (
    GZIP,
    SILENCE_SECONDS,
    DataError,
    Pipe,
    Stop,
    StoppedError,
    list_files,
    open_file,
    split_by_content,
    unzipped,
)
from sagemaker_byoc.training.library.process import ALL, Place, Process, Share, Unit, job

Blocks = Generator[list[bytes], None, None]
"""Lists of records, which are faster than one record at a time through several generators."""


@dataclass(frozen=True, slots=True)
class Part:
    """The size of one share of a channel."""

    files: int
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelReader:
    """One channel, or one share of it. Keep it: it counts the epochs of a FIFO."""

    channel: Channel
    tree: Tree
    place: Place
    pipe: Pipe
    owner: int | None = None
    """The local rank that reads the FIFO of a Pipe channel."""
    share: Share = ALL
    unit: Unit | None = None
    """What is divided into shares; None means files if there are enough, else records."""

    @property
    def name(self) -> str:
        return self.channel.name

    def shard(self, place: Place | None = None, unit: Unit | None = None) -> ChannelReader:
        """Return the share of `place`, by default this process, as SageMaker distributed the data.

        FullyReplicated: one share per process of the job. ShardedByS3Key: one per process of this
        host, since each host has other files. Pipe: one per host, since one process reads a FIFO.
        """
        place = place or self.place
        if self._is_pipe:
            share, unit = place.pipe_share(self.channel.distribution), Unit.RECORDS
        else:
            share = place.share(self.channel.distribution)
        return dataclasses.replace(self, place=place, share=share, unit=unit)

    def files(self, pattern: str = "*") -> list[Path]:
        """Return this share's files in natural order; raise DataError if a share would get none."""
        found = self._all_files(pattern)
        if self._divides_records(found):
            raise DataError(
                where=f"channel {self.name!r}",
                what=f"has {len(found)} files for {self.share.count} shares, "
                "so not every one gets a file of its own",
                hint="Read it with records(), or cut the data into more files",
            )
        return self._own(found, self.share)

    def counts(self, pattern: str = "*") -> list[Part]:
        """Return files and bytes of each share: of all files if records are divided."""
        found = self._all_files(pattern)
        sizes = {path: path.stat().st_size for path in found}
        if self._divides_records(found):
            return [Part(len(sizes), sum(sizes.values()))] * self.share.count
        every = (Share(index, self.share.count) for index in range(self.share.count))
        shares = ([sizes[path] for path in self._own(found, share)] for share in every)
        return [Part(len(own), sum(own)) for own in shares]

    def records(
        self, framing: Framing | None = None, *, even: bool = False, stop: Stop | None = None
    ) -> Generator[bytes, None, None]:
        """Yield this share's records; in Pipe mode each call reads the next epoch.

        `framing` None means RecordIO if SageMaker wraps the records in it, else lines. With `even`
        all shares are equally long: each process reads everything, and up to count - 1 records at
        the end are left out. `stop` is called between files and while a FIFO is silent; if it
        returns true the records end.
        """
        if even:
            self._check_even()
        if self._is_pipe:
            self._check_owner()
            blocks = self._pipe_blocks(self._pipe_framing(framing), stop, even=even)
        else:
            blocks = self._file_blocks(framing or self._default_framing, stop, even=even)
        return _flattened(blocks)

    @property
    def _is_pipe(self) -> bool:
        return self.channel.mode is InputMode.PIPE

    @property
    def _is_wrapped(self) -> bool:
        return self.channel.record_wrapper is RecordWrapper.RECORD_IO

    @property
    def _default_framing(self) -> Framing:
        return Framing.RECORD_IO if self._is_wrapped else Framing.LINES

    @property
    def _joint(self) -> bytes:
        """What joins the parts of a record: SageMaker's wrapper splits it otherwise than MXNet."""
        return AWS_JOINT if self._is_wrapped else MXNET_JOINT

    def _pipe_blocks(self, framing: Framing, stop: Stop | None, *, even: bool) -> Blocks:
        where = str(self.tree.pipe(self.name, self.pipe.epoch))
        try:
            with self.pipe.open(stop) as fifo:
                source = unzipped(fifo, fifo.peek(len(GZIP)))
                yield from self.share.pick(split(source, framing, where, self._joint), even=even)
        except StoppedError:
            return

    def _file_blocks(self, framing: Framing, stop: Stop | None, *, even: bool) -> Blocks:
        found = self._all_files("*")
        if even or self._divides_records(found):
            yield from self.share.pick(self._read(found, framing, stop), even=even)
        else:
            yield from self._read(self._own(found, self.share), framing, stop)

    def _read(self, paths: list[Path], framing: Framing, stop: Stop | None) -> Blocks:
        for path in paths:
            if stop is not None and stop():
                return
            with open_file(path) as source:
                yield from split(source, framing, str(path), self._joint)

    def _all_files(self, pattern: str) -> list[Path]:
        if self._is_pipe:
            raise DataError(
                where=f"channel {self.name!r}",
                what="is in Pipe mode and has no files",
                hint="Read it with records(), or declare it FastFile",
            )
        return list_files(self.tree.channel(self.name), pattern)

    @staticmethod
    def _own(files: list[Path], share: Share) -> list[Path]:
        """Return every n-th file; if a share then had only empty files, divide these separately."""
        full, empty = split_by_content(files) if share.count > 1 else (files, [])
        kept = {*full}
        fed = {place % share.count for place, path in enumerate(files) if path in kept}
        if not empty or len(fed) == share.count:
            return share.of(files)
        own = {*share.of(full), *share.of(empty)}
        return [path for path in files if path in own]

    def _divides_records(self, files: list[Path]) -> bool:
        if self.unit is None:
            return len(files) < self.share.count or (
                self.share.count > 1 and len(split_by_content(files)[0]) < self.share.count
            )
        return self.unit is Unit.RECORDS

    def _pipe_framing(self, framing: Framing | None) -> Framing:
        """Return the framing of the FIFO's bytes: a wrapped object is one record in any case."""
        if framing is None or (framing is Framing.WHOLE and self._is_wrapped):
            return self._default_framing
        if framing is Framing.WHOLE:
            raise DataError(
                where=f"channel {self.name!r}",
                what="is a Pipe without RecordWrapperType RecordIO: all objects run into one",
                hint="Declare RecordIO for the channel, or read it by lines",
            )
        return framing

    def _check_owner(self) -> None:
        """Raise DataError in a second process: readers of a FIFO take bytes from each other."""
        place, name = self.place, self.name
        if place.local_world_size == 1 or self.owner == place.local_rank:
            return
        if self.owner is None:
            what = f"is one FIFO, and {place.local_world_size} processes of this host could read it"
        else:
            what = f"belongs to local rank {self.owner}, and this is {place.local_rank}"
        raise DataError(
            where=f"Pipe channel {name!r}",
            what=what,
            hint=f"Let one read it, channel({name!r}, owner=0), and hand the data on; or give each "
            f"its own channel, channel(f'{name}-{{rank}}', owner=rank); or declare it FastFile",
        )

    def _check_even(self) -> None:
        if self.channel.distribution is Distribution.SHARDED and self.place.hosts > 1:
            raise DataError(
                where=f"channel {self.name!r}",
                what="is ShardedByS3Key: no host knows how much another one has",
                hint="Agree on a number of steps between the hosts, or declare FullyReplicated",
            )


def _flattened(blocks: Blocks) -> Generator[bytes, None, None]:
    """Yield the records one by one; closing this closes the file or FIFO."""
    with closing(blocks):
        for block in blocks:
            yield from block


def channel(
    name: str,
    process: Process | None = None,
    *,
    owner: int | None = None,
    patience: float = SILENCE_SECONDS,
    epoch: int = 0,
) -> ChannelReader:
    """Return the whole channel `name` of the job; `.shard()` is this process's part of it.

    For Pipe mode: `owner` is the local rank that reads the FIFO, `patience` the limit of a silence
    in seconds, `epoch` the first epoch.
    """
    process = process or job()
    declared = process.channels.get(name)
    if declared is None:
        raise DataError(
            where=f"channel {name!r}",
            what=f"is not on this host, which has: {', '.join(process.channels) or 'no channels'}",
            hint="Declare it in InputDataConfig; with InstanceGroupNames, for this host's group",
        )
    return ChannelReader(
        channel=declared,
        tree=process.tree,
        place=process.place,
        pipe=Pipe(process.tree, name, patience, epoch),
        owner=owner,
    )
