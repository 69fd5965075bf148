"""What every engine has in common: the specification of a container, and its interface."""

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
"""Characters: the size of a CloudWatch event for years, 256 KiB less its overhead."""
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
    """The network of one job: its hosts know each other by name, and no other job's."""

    name: str
    hosts: tuple[str, ...]
    """In natural order."""
    isolated: bool = False
    """Whether the hosts reach each other and nothing else."""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """CPUs and memory of the instance type, at most what this machine has."""

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
    """One container; `tree` is the host folder of its /opt/ml."""

    name: str
    argument: str
    """`train` or `serve`; empty for the image's own command."""
    tree: Tree
    environment: Mapping[str, str]
    image: str = ""
    """For engines with images."""
    interpreter: Path | None = None
    """For the process engine: the Python whose toolkit runs; this process's own by default."""
    program: Path | None = None
    """A folder of user code that takes precedence over the image's."""
    entrypoint: tuple[str, ...] = ()
    """Replaces the image's entrypoint; `argument` is then not passed."""
    arguments: tuple[str, ...] = ()
    """Replace `argument`."""
    inputs: Mapping[str, Path] = field(default_factory=dict)
    """Folders of this machine, by the folders, relative to the tree's root, that show them."""
    read_only: frozenset[str] = frozenset()
    """Those of `inputs` that are shown without a copy if the engine can, and those of `shared`
    that only this machine writes to, if the engine can prevent the container from it."""
    outputs: tuple[str, ...] = ()
    """Folders, relative to the tree's root, that `collect` brings back if they exist."""
    outside: Mapping[str, Path] = field(default_factory=dict)
    """Folders of this machine that receive a folder outside of the tree, by its absolute path."""
    shared: tuple[str, ...] = ()
    """Folders, relative to the tree's root, that this machine and the running container share."""
    port: int | None = None
    """TCP port of 127.0.0.1 at which the container's server is reached."""
    hostname: str = "algo-1"
    network: Network | None = None
    """Opened with the engine before; None for a container on its own."""
    gpus: int | None = None
    """Number of GPUs that it may see; None for all."""
    limits: Limits | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels by which an engine finds what a crash of this process left."""
    given_up: Callable[[], bool] = never
    """Called while files are copied: True ends the start with GivenUpError."""

    @property
    def command(self) -> tuple[str, ...]:
        """The words after the image's name, or after the entrypoint."""
        if self.arguments or self.entrypoint or not self.argument:
            return self.arguments
        return (self.argument,)


class Container(Protocol):
    """A started container. `close` ends and removes it in any state."""

    def lines(self) -> Iterator[str]:
        """Yield the lines of its log, as `lines_of` does, until it ends."""

    def exit_code(self) -> int | None:
        """Return its exit code; None while it runs."""

    def wait(self) -> int:
        """Wait for its end, return its exit code. Raise MachineError if the engine can't tell."""

    def stop(self, grace: float) -> None:
        """Send SIGTERM, then SIGKILL after `grace` seconds; return once it has ended."""

    def fetch(self, relative: str, on_left: OnLeft) -> None:
        """Copy one folder of its tree, as it is now, into the tree on this machine."""

    def collect(self, on_left: OnLeft) -> None:
        """Copy the spec's outputs to this machine. Raise MachineError if that fails."""

    def keep(self) -> str:
        """End it, keep it for the user, and return a sentence that says how to reach it."""

    def close(self) -> None: ...


class Engine(Protocol):
    """The interface of an engine. Methods raise MachineError on failure."""

    @property
    def name(self) -> str: ...

    @property
    def shares_files(self) -> bool:
        """Whether a container writes into the files of this machine, not into copies."""

    @property
    def protects_inputs(self) -> bool:
        """Whether a container is prevented from changing the files of its `inputs`."""

    @property
    def interface(self) -> str:
        """The network interface over which the containers of a job reach each other."""

    def start(self, spec: ContainerSpec) -> Container: ...

    def gateway(self, network: Network | None) -> str | None:
        """Return the address under which a container in `network` (None: in the engine's own)
        finds this machine, or None if it has no way out. Raise MachineError.
        """

    def open_network(self, network: Network) -> None: ...

    def close_network(self, network: Network) -> None:
        """Remove the network if it is there. Never raises."""

    def sweep(self, labels: Mapping[str, str], trees: Sequence[Tree]) -> int:
        """End and remove what has all `labels` or runs in one of `trees`; return the number.

        A label without a value matches any value.
        """


@dataclass(frozen=True, slots=True)
class Reach:
    pid: int
    """Its first process, as numbered on this machine; the others descend from it or share its
    network."""
    has_own_network: bool
    address: str
    """The address at which its ports are reached; empty if they can't be."""


@runtime_checkable
class Reachable(Protocol):
    """A container whose processes run where this process can see them."""

    def reach(self) -> Reach | None:
        """Return None if it has ended, or runs on another machine."""


class ShellEngine(Protocol):
    """An engine that can open a shell in a container."""

    def shell(self, spec: ContainerSpec) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Yield a shell on this terminal in place of the command; remove all at the end."""


def shell_of(spec: ContainerSpec) -> ContainerSpec:
    return replace(spec, entrypoint=("/bin/sh", "-c", _SCRIPT), arguments=())


def start_all(
    engine: Engine,
    specs: Mapping[str, ContainerSpec],
    given_up: Callable[[], bool] = never,
) -> dict[str, Container]:
    """Return all containers, or raise ByocError with none left.

    They start in threads, so that a start can be given up: a copy of 100 GB takes a while.
    `given_up` is called meanwhile, also by an engine that copies files.
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
