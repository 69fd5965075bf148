"""Which part of the data is this process's own: nothing read twice, nothing lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.training.channels import Distribution

T = TypeVar("T")


class Unit(StrEnum):
    """What is dealt out: whole files, or single records of files that every share reads."""

    FILES = "files"
    RECORDS = "records"


@dataclass(frozen=True, slots=True)
class Share:
    """Share `index` of `count`: every `count`-th item, from item `index` on."""

    index: int = 0
    count: int = 1

    def of(self, items: Sequence[T]) -> list[T]:
        return list(items[self.index :: self.count])

    def pick(self, blocks: Iterable[list[T]], *, even: bool = False) -> Iterator[list[T]]:
        """This share of a stream that comes in blocks; with `even`, of its complete rounds only."""
        seen = given = 0
        held: list[T] = []
        for block in blocks:
            held += block[(self.index - seen) % self.count :: self.count]
            seen += len(block)
            ready = seen // self.count - given if even else len(held)
            yield held[:ready]
            given += ready
            held = held[ready:]


ALL = Share()


@dataclass(frozen=True, slots=True)
class Place:
    """Where this process stands among all processes and among those of its host, from 0.

    Ranks run through the hosts one after the other, as torchrun deals them.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    def __post_init__(self) -> None:
        for name, index, count in (
            ("rank", self.rank, self.world_size),
            ("local rank", self.local_rank, self.local_world_size),
        ):
            if not 0 <= index < count:
                raise ContractError(
                    where=f"{name} {index}",
                    what=f"is not among {count}, which are counted from 0",
                    hint="Set RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE as torchrun does",
                )

    @classmethod
    def uniform(cls, rank: int, world_size: int, hosts: int = 1) -> Place:
        """The place of `rank` where each of `hosts` runs the same number of processes."""
        if world_size % hosts:
            raise ContractError(
                where=f"{world_size} processes on {hosts} hosts",
                what="are not the same number on each",
                hint="Give the local rank and the local world size too",
            )
        local = world_size // hosts
        return cls(rank, world_size, rank % local, local)

    @property
    def host(self) -> int:
        return (self.rank - self.local_rank) // self.local_world_size

    @property
    def hosts(self) -> int:
        return -(-self.world_size // self.local_world_size)

    @property
    def local(self) -> Place:
        """The same process in the world of its host alone."""
        return Place(self.local_rank, self.local_world_size, self.local_rank, self.local_world_size)

    def worker(self, index: int, count: int) -> Place:
        """The place of worker `index` of `count` that this process runs to read its data."""
        return Place(
            self.rank * count + index,
            self.world_size * count,
            self.local_rank * count + index,
            self.local_world_size * count,
        )

    def share(self, distribution: Distribution) -> Share:
        """Return the unit for files: one host's are all there are, or already its own part."""
        if distribution is Distribution.SHARDED:
            return Share(self.local_rank, self.local_world_size)
        return Share(self.rank, self.world_size)

    def pipe_share(self, distribution: Distribution) -> Share:
        """Return the unit for a FIFO, which one process reads for its whole host."""
        if distribution is Distribution.SHARDED:
            return ALL
        return Share(self.host, self.hosts)
