"""Where the sockets of a container are found from the outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Reach:
    pid: int
    """Of its first process, as this machine numbers it; all others descend from it, or are in its
    network."""
    has_own_network: bool
    address: str
    """Where its ports are reached from here; empty where they can't be."""


@runtime_checkable
class Reachable(Protocol):
    """A container whose processes run where this process can see them."""

    def reach(self) -> Reach | None:
        """None where it has ended, or runs on another machine."""
