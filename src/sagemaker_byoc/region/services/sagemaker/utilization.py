"""CloudWatch's metrics of instances: CPU, memory and disk of the containers of jobs and endpoints.

Source of names, units and dimensions: developer guide, "Amazon SageMaker AI metrics in CloudWatch".
The processes of a container are seen in /proc, for both engines, if they run on this machine.
A process that outlived its parent is not found. GPUs are not measured: what the driver tells is of
the machine, not of a container.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract.errors import ByocError
from sagemaker_byoc.contract.machine import usable_memory
from sagemaker_byoc.region.engines.container import Container, ContainerSpec, Reachable
from sagemaker_byoc.region.services.cloudwatch.metric import Metric
from sagemaker_byoc.region.services.cloudwatch.metric_store import MetricStore

LOG = logging.getLogger(__name__)

SAMPLE_SECONDS = 10.0
"""Time between two samples. Those of a minute are one period, as AWS publishes it."""
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
PROC = Path("/proc")
_PERCENT = 100.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where the values of an instance go in CloudWatch."""

    namespace: str
    dimensions: Mapping[str, str]
    instance: str
    """A name that its containers share: their values are added."""


@dataclass(frozen=True, slots=True)
class Usage:
    cpu: float
    """Seconds since the start of the processes, with those of children that have ended."""
    memory: int
    """Bytes; what processes share is counted once, if this process may see it."""


@dataclass(slots=True, eq=False)
class _Followed:
    container: Container
    spec: ContainerSpec
    place: Place
    is_visible: bool = True
    """False for good once its engine has told that it runs on another machine, or has ended."""
    pid: int | None = None
    cpu: float = 0.0
    time: float | None = None
    """The last sample, in seconds of the monotonic clock."""


@dataclass(slots=True)
class _Sum:
    cpu: float = 0.0
    memory: float = 0.0
    disk: float = 0.0


class Utilization:
    """Samples the containers that it was given, in one thread that ends with the last of them."""

    def __init__(self, store: MetricStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._followed: list[_Followed] = []
        self._changed = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None

    def follow(self, container: Container, spec: ContainerSpec, place: Place) -> Callable[[], None]:
        """Sample a container from now on; return a function that ends that."""
        followed = _Followed(container, spec, place)
        with self._lock:
            self._followed.append(followed)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="byoc-utilization", daemon=True
                )
                self._thread.start()

        def end() -> None:
            with self._lock:
                if followed in self._followed:
                    self._followed.remove(followed)
                self._changed.notify_all()

        return end

    def sample(self) -> None:
        """Put the values since the last sample; a new container only begins."""
        with self._lock:
            followed = [*self._followed]
        sums: dict[str, tuple[Place, _Sum]] = {}
        for each in followed:
            with suppress(ByocError, OSError):  # it has ended, or its engine has
                found = _sample(each)
                if found is not None:
                    _, total = sums.setdefault(each.place.instance, (each.place, _Sum()))
                    total.cpu += found.cpu
                    total.memory += found.memory
                    total.disk = max(total.disk, found.disk)
        for place, total in sums.values():
            for name, value in (
                ("CPUUtilization", total.cpu),
                ("MemoryUtilization", total.memory),
                ("DiskUtilization", total.disk),
            ):
                metric = Metric.of(place.namespace, name, place.dimensions)
                self._store.put(metric, value, unit="Percent", resolution=1)

    def _run(self) -> None:
        while True:
            try:
                self.sample()
            except Exception:
                LOG.exception("the use of the machine could not be measured")
            with self._changed:
                deadline = time.monotonic() + SAMPLE_SECONDS
                while self._followed and (left := deadline - time.monotonic()) > 0:
                    self._changed.wait(left)
                if not self._followed:
                    self._thread = None
                    return


def _sample(followed: _Followed) -> _Sum | None:
    if not followed.is_visible:
        return None
    if followed.pid is None:
        reach = followed.container.reach() if isinstance(followed.container, Reachable) else None
        if reach is None:
            followed.is_visible = False
            return None
        followed.pid = reach.pid
    usage = usage_of(followed.pid)
    if usage is None:
        return None
    now, before = time.monotonic(), followed.time
    cpu = usage.cpu - followed.cpu
    followed.cpu, followed.time = usage.cpu, now
    if before is None:
        return None
    limits = followed.spec.limits
    memory = usable_memory() if limits is None else limits.memory
    disk = shutil.disk_usage(followed.spec.tree.root)
    return _Sum(
        cpu=_PERCENT * max(0.0, cpu) / (now - before),
        memory=_PERCENT * usage.memory / memory,
        disk=_PERCENT * disk.used / (disk.used + disk.free),
    )


def usage_of(pid: int, proc: Path = PROC) -> Usage | None:
    """Return what a process and all below it use; None if it has ended."""
    found = [each for process in _tree(pid, proc) if (each := _usage(proc / str(process)))]
    if not found:
        return None
    return Usage(sum(each.cpu for each in found), sum(each.memory for each in found))


def _tree(pid: int, proc: Path) -> Iterator[int]:
    yield pid
    with suppress(OSError):
        for task in (proc / str(pid) / "task").iterdir():
            with suppress(OSError):
                for child in (task / "children").read_text().split():
                    yield from _tree(int(child), proc)


def _usage(entry: Path) -> Usage | None:
    try:
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
        resident = int((entry / "statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return None
    cpu = sum(int(field) for field in fields[11:15]) / _TICKS
    return Usage(cpu, _proportional(entry) or resident)


def _proportional(entry: Path) -> int | None:
    """Return the bytes of a process, its share of what it shares; None if that can't be seen."""
    with suppress(OSError, ValueError):
        for line in (entry / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return None
