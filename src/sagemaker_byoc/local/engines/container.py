"""What an engine is given and what it gives back: one container of the contract."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sagemaker_byoc.contract.paths import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """One container: `argument` is `train` or `serve`, `tree` is the host folder of its /opt/ml."""

    name: str
    argument: str
    tree: Tree
    environment: Mapping[str, str]
    image: str = ""
    """For engines that have images."""
    program: Path | None = None
    """A folder of user code that wins over what the image holds."""
    inputs: Mapping[str, Path] = field(default_factory=dict)
    """Folders, relative to the tree's root, to the host folders that they show."""
    outputs: tuple[str, ...] = ()
    """Folders, relative to the tree's root, that `collect` brings back where they exist."""
    port: int | None = None
    """TCP port of 127.0.0.1 on which the container's server is reached."""
    hostname: str = "algo-1"


class Container(Protocol):
    """A started container. `close` ends it, and removes it, whatever state it is in."""

    def lines(self) -> Iterator[str]:
        """Its log, line by line, until it ends."""

    def exit_code(self) -> int | None:
        """None while it runs."""

    def wait(self) -> int:
        """Its exit code, once its log has ended; bounded."""

    def stop(self, grace: float) -> None:
        """SIGTERM, and SIGKILL after `grace` seconds; returns once it has ended."""

    def collect(self) -> None:
        """Bring the spec's outputs into its tree on the host."""

    def close(self) -> None: ...


class Engine(Protocol):
    """Starts containers. Raises MachineError where it can't."""

    @property
    def name(self) -> str: ...

    def start(self, spec: ContainerSpec) -> Container: ...
