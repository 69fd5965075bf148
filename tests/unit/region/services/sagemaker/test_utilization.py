"""What containers use of the machine, as metrics of CloudWatch."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from sagemaker_byoc.contract.errors import MachineError
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.region.engines.container import ContainerSpec, Limits, Reach
from sagemaker_byoc.region.services.sagemaker import utilization
from sagemaker_byoc.region.services.sagemaker.utilization import Place, Utilization, usage_of

MEMORY = 1 << 30
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
print("ready", flush=True)
sys.stdin.read()
child.kill()
"""
BUSY = """
block = bytearray(64 << 20)
print("ready", flush=True)
while True: pass
"""


@pytest.fixture
def busy():
    """The pid of an idle process whose child uses a CPU and 64 MiB."""
    command = [sys.executable, "-c", PARENT, BUSY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
        process.stdin.close()


class Values:
    """A store that keeps values by the instance's dimensions and the name of the metric."""

    def __init__(self):
        self.found = {}
        self.came = threading.Event()

    def put(self, metric, value, **more):
        assert more == {"unit": "Percent", "resolution": 1}
        self.found.setdefault((metric.dimensions[0][1], metric.name), []).append(value)
        self.came.set()


class Contained:
    def __init__(self, pid):
        self.pid = pid

    def reach(self):
        if self.pid is None:
            raise MachineError("the engine has ended", hint="")
        return Reach(self.pid, has_own_network=False, address="")


def spec(folder, **more):
    return ContainerSpec(name="c", argument="train", tree=Tree(folder), environment={}, **more)


def place(host, instance="i"):
    return Place("/aws/sagemaker/TrainingJobs", {"Host": host}, instance)


def still(use, *containers):
    """Follow containers without the thread."""
    use._thread = threading.current_thread()
    return [use.follow(*each) for each in containers]


def test_the_processes_of_a_container_are_added(busy):
    first = usage_of(busy)
    assert first.memory > 64 << 20
    while (now := usage_of(busy)).cpu < first.cpu + 0.05:
        pass
    assert now.cpu > first.cpu
    assert usage_of(os.getpid()).memory > 1 << 20


def test_a_process_that_has_ended():
    process = subprocess.Popen(["true"])
    process.wait()
    assert usage_of(process.pid) is None


def test_percents(busy, tmp_path, monkeypatch):
    values, clock = Values(), SimpleNamespace(now=0.0)
    monkeypatch.setattr(utilization.time, "monotonic", lambda: clock.now)
    use = Utilization(values)
    limits = Limits(cpus=1, memory=MEMORY)
    (end,) = still(use, (Contained(busy), spec(tmp_path, limits=limits), place("a/algo-1")))
    use.sample()
    assert values.found == {}
    before = usage_of(busy).cpu
    while usage_of(busy).cpu < before + 0.2:
        pass
    clock.now += 1.0
    use.sample()
    found = {name: value for (_, name), (value,) in values.found.items()}
    assert 15 <= found["CPUUtilization"] <= 400
    assert 6 <= found["MemoryUtilization"] <= 30
    assert 0 < found["DiskUtilization"] <= 100
    end()
    clock.now += 1.0
    use.sample()
    assert len(values.found["a/algo-1", "CPUUtilization"]) == 1


def test_the_containers_of_an_instance_are_one_value(busy, tmp_path):
    values = Values()
    use = Utilization(values)
    limits = {"limits": Limits(cpus=1, memory=MEMORY)}
    still(
        use,
        (Contained(busy), spec(tmp_path, **limits), place("one", "i-1")),
        (Contained(busy), spec(tmp_path, **limits), place("one", "i-1")),
        (Contained(busy), spec(tmp_path, **limits), place("two", "i-2")),
    )
    use.sample()
    use.sample()
    (both,), (one,) = (values.found[name, "MemoryUtilization"] for name in ("one", "two"))
    assert both == pytest.approx(2 * one, rel=0.1)


def test_containers_that_can_not_be_seen_are_left_out(tmp_path):
    """On another machine, ended, or of an engine that does not answer."""
    values = Values()
    use = Utilization(values)
    elsewhere = SimpleNamespace(reach=lambda: None)
    unreachable = SimpleNamespace()
    gone = Contained(2**22 + 1)
    for container in (elsewhere, unreachable, gone, Contained(None)):
        still(use, (container, spec(tmp_path), place("x")))
    use.sample()
    use.sample()
    assert values.found == {}


def test_an_engine_is_asked_once_for_a_container_that_can_not_be_seen(tmp_path):
    """`docker inspect` takes a process; an engine that did not answer is asked again."""
    asked = []

    def reach():
        asked.append(len(asked))
        if len(asked) == 1:
            raise MachineError("the engine does not answer", hint="")

    use = Utilization(Values())
    still(use, (SimpleNamespace(reach=reach), spec(tmp_path), place("x")))
    for _ in range(4):
        use.sample()
    assert len(asked) == 2


def test_the_thread_ends_with_the_last_container(busy, tmp_path, monkeypatch):
    monkeypatch.setattr(utilization, "SAMPLE_SECONDS", 0.02)
    values = Values()
    use = Utilization(values)
    for _ in range(2):
        end = use.follow(Contained(busy), spec(tmp_path), place("x"))
        thread = use._thread
        assert values.came.wait(30)
        end()
        end()
        thread.join(30)
        assert not thread.is_alive()
        values.came.clear()
