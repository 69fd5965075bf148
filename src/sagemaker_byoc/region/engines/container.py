"""What an engine is given and what it gives back: one container of the contract."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Protocol, runtime_checkable

from sagemaker_byoc.contract.errors import ByocError
from sagemaker_byoc.contract.folders import OnLeft
from sagemaker_byoc.contract.paths import Tree

LONGEST_LINE = 262_118
"""Characters: what CloudWatch took as one event for years, 256 KiB less its overhead."""
_SCRIPT = """cd "${SAGEMAKER_SUBMIT_DIRECTORY:-.}" && if command -v bash >/dev/null
then exec bash; else exec sh; fi"""
_STARTERS = 4


def lines_of(log: IO[str]) -> Iterator[str]:
    """Yield the lines of a container's output; a longer one than LONGEST_LINE in pieces.

    A program that never ends its line must not fill the memory of the region.
    """
    is_cut = False
    while line := log.readline(LONGEST_LINE):
        if not (is_cut and line == "\n"):  # else the piece before was the line's last
            yield line.removesuffix("\n")
        is_cut = not line.endswith("\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What the hosts of one job share, and no other job: names, and an engine's own network."""

    name: str
    hosts: tuple[str, ...]
    """In natural order."""
    isolated: bool = False
    """The hosts reach each other and nothing else."""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the instance type would have; never more than the machine has."""

    cpus: int
    memory: int
    """Bytes."""


class GivenUpError(ByocError):
    """The container was stopped before it started."""

    def __init__(self) -> None:
        super().__init__("it was stopped before it started", hint="Start it again")


def never() -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """One container: `argument` is `train` or `serve`, `tree` is the host folder of its /opt/ml."""

    name: str
    argument: str
    tree: Tree
    environment: Mapping[str, str]
    image: str = ""
    """For engines that have images."""
    interpreter: Path | None = None
    """For the engine that has none: the Python whose toolkit runs; ours where it is not given."""
    program: Path | None = None
    """A folder of user code that wins over what the image holds."""
    entrypoint: tuple[str, ...] = ()
    """Replaces the image's own; `argument` is not passed then."""
    arguments: tuple[str, ...] = ()
    """Replace `argument`."""
    inputs: Mapping[str, Path] = field(default_factory=dict)
    """Folders, relative to the tree's root, to the host folders that they show."""
    read_only: frozenset[str] = frozenset()
    """Those of `inputs` that are never copied where that can be helped."""
    outputs: tuple[str, ...] = ()
    """Folders, relative to the tree's root, that `collect` brings back where they exist."""
    outside: Mapping[str, Path] = field(default_factory=dict)
    """Absolute folders of the container, outside of its tree, by the host folders that get them."""
    shared: tuple[str, ...] = ()
    """Folders, relative to the tree's root, that host and container see alike while it runs."""
    port: int | None = None
    """TCP port of 127.0.0.1 on which the container's server is reached."""
    hostname: str = "algo-1"
    network: Network | None = None
    """Opened with the engine before; None for a container that has no fellows."""
    gpus: int | None = None
    """How many it may see; None for all that there are."""
    limits: Limits | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    """By which an engine finds, after a crash of ours, what is left."""
    given_up: Callable[[], bool] = never
    """Asked while files are copied: True ends the start with GivenUpError."""

    @property
    def command(self) -> tuple[str, ...]:
        """What follows the image's name, or the entrypoint."""
        return self.arguments or (() if self.entrypoint else (self.argument,))


class Container(Protocol):
    """A started container. `close` ends it, and removes it, whatever state it is in."""

    def lines(self) -> Iterator[str]:
        """Its log, line by line as `lines_of` yields them, until it ends."""

    def exit_code(self) -> int | None:
        """None while it runs."""

    def wait(self) -> int:
        """Its exit code, once it has ended. Raises MachineError if the engine can't tell."""

    def stop(self, grace: float) -> None:
        """SIGTERM, and SIGKILL after `grace` seconds; returns once it has ended."""

    def fetch(self, relative: str, on_left: OnLeft) -> None:
        """Bring one folder of its tree, as it is now, into the tree on the host."""

    def collect(self, on_left: OnLeft) -> None:
        """Bring the spec's outputs to the host. Raises MachineError for what can't be copied."""

    def keep(self) -> str:
        """End it, leave what it holds to the user, and return a sentence that says how."""

    def close(self) -> None: ...


class Engine(Protocol):
    """Starts containers. Raises MachineError where it can't."""

    @property
    def name(self) -> str: ...

    @property
    def shares_files(self) -> bool:
        """Whether a container writes into the very files that the host laid out for it."""

    @property
    def protects_inputs(self) -> bool:
        """Whether a container can't change the host's files that it is shown as `inputs`."""

    @property
    def interface(self) -> str:
        """The network interface over which a container reaches its fellows."""

    def start(self, spec: ContainerSpec) -> Container: ...

    def gateway(self, network: Network | None) -> str | None:
        """Return the address under which a container in `network` (None: in the engine's own)
        finds this machine, or None if it has no way out. Raise MachineError.
        """

    def open_network(self, network: Network) -> None: ...

    def close_network(self, network: Network) -> None:
        """Never raises; a network that is gone is none to close."""

    def sweep(self, labels: Mapping[str, str], trees: Sequence[Tree]) -> int:
        """End and remove what carries all `labels` or lives in one of `trees`; how many there were.

        A label without a value stands for any.
        """


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


class ShellEngine(Protocol):
    """An engine that can show the inside of a container."""

    def shell(self, spec: ContainerSpec) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Yield a process on this terminal; at the end nothing of the container is left."""


def shell_of(spec: ContainerSpec) -> ContainerSpec:
    return replace(spec, entrypoint=("/bin/sh", "-c", _SCRIPT), arguments=())


def start_all(
    engine: Engine,
    specs: Mapping[str, ContainerSpec],
    given_up: Callable[[], bool] = never,
) -> dict[str, Container]:
    """Return all containers, or raise LocalError with none left.

    `given_up` is asked all the while, also by an engine that copies files.
    """
    with ThreadPoolExecutor(min(_STARTERS, len(specs))) as starters:
        begun = {
            name: starters.submit(engine.start, replace(spec, given_up=given_up))
            for name, spec in specs.items()
        }
    started, failure = _sorted(begun)
    if failure is not None or given_up():
        for container in started.values():
            container.close()
        raise GivenUpError if failure is None else failure
    return started


def _sorted(
    begun: Mapping[str, Future[Container]],
) -> tuple[dict[str, Container], BaseException | None]:
    failures = [error for call in begun.values() if (error := call.exception()) is not None]
    done = {name: call.result() for name, call in begun.items() if call.exception() is None}
    return done, failures[0] if failures else None
