"""CPUs, memory and GPUs are counted as the container may use them, the same in both images."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sagemaker_byoc.contract import machine
from sagemaker_byoc.serving.settings import Settings


@pytest.fixture
def gpus(tmp_path):
    """The names on a machine whose driver lists some GPUs, with some device files."""

    def names(listed, files, environ):
        for number in range(listed):
            (tmp_path / "proc" / f"0000:{number}").mkdir(parents=True)
        devices = tmp_path / "dev"
        devices.mkdir()
        for name in ("nvidiactl", "nvidia-uvm", *(f"nvidia{number}" for number in range(files))):
            (devices / name).touch()
        return machine.visible_gpus(environ, tmp_path / "proc", devices)

    return names


ALL = ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("listed", "files", "names"),
    [
        (0, 0, ()),
        (4, 4, ALL),
        (8, 1, ("0",)),  # the driver lists those of the whole machine
        (8, 0, ()),
        (0, 2, ("0", "1")),
    ],
)
def test_gpus_that_are_there(gpus, listed, files, names):
    assert gpus(listed, files, {}) == names


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("all", ALL),
        ("", ALL),  # says nothing: the device files do
        ("void", ALL),
        ("none", ()),
        ("NoDevFiles", ()),
        ("1,3", ("0", "1")),
        ("1,1", ("0",)),
        ("GPU-a,GPU-b", ("0", "1")),
        ("0,1,2,3,4,5", ALL),
        ("MIG-a,MIG-b", ("MIG-a", "MIG-b")),
    ],
)
def test_gpus_that_the_runtime_hands_over(gpus, value, names):
    assert gpus(4, 4, {"NVIDIA_VISIBLE_DEVICES": value}) == names


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("1,3", ("1", "3")),
        (" 1 , 3 ", ("1", "3")),
        ("3,0", ("3", "0")),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("none", ()),
        ("0,-1,1", ("0",)),  # CUDA reads no further than the first that is not valid
        ("0,,1", ("0",)),
        ("0,9,1", ("0",)),
        ("9", ()),
        ("0,x", ("0",)),
        ("0,1,1", ()),  # one that comes twice leaves nothing
        ("+2", ("2",)),
        ("GPU-a,GPU-b", ("GPU-a", "GPU-b")),
        ("GPU-a, GPU-b", ("GPU-a",)),
        ("GPU-a,GPU-a", ()),
        ("GPU-a,1", ("GPU-a",)),
        ("1,GPU-a", ("1",)),
        ("GPU-a,GPU-b,GPU-c,GPU-d,GPU-e", ("GPU-a", "GPU-b", "GPU-c", "GPU-d")),
        ("MIG-a,MIG-b,MIG-c,MIG-d,MIG-e", ("MIG-a", "MIG-b", "MIG-c", "MIG-d", "MIG-e")),
    ],
)
def test_gpus_that_cuda_shows(gpus, value, names):
    assert gpus(4, 4, {"CUDA_VISIBLE_DEVICES": value}) == names


@pytest.mark.parametrize(
    ("files", "runtime", "cuda", "names"),
    [
        (0, "all", "0,1", ()),
        (4, "none", "0,1", ()),
        (4, "0,1", "1,2", ("1",)),
        (1, "MIG-a,MIG-b", "1", ("1",)),
        (1, "all", "MIG-a,MIG-b", ("MIG-a", "MIG-b")),
    ],
)
def test_gpus_of_both_variables(gpus, files, runtime, cuda, names):
    environ = {"NVIDIA_VISIBLE_DEVICES": runtime, "CUDA_VISIBLE_DEVICES": cuda}
    assert gpus(files, files, environ) == names


@pytest.fixture
def group(tmp_path):
    """A control group with some files."""
    membership = tmp_path / "membership"
    membership.write_text("5:cpu,cpuacct:/job\n4:memory:/job\n0::/job\n")

    def made(**files):
        for name, text in files.items():
            path = tmp_path / "mount" / name.replace("__", "/").replace("_", ".", 1)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "mount", membership

    return made


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"cpu_max": "max 100000\n"}, None),
        ({"cpu_max": "150000 100000\n"}, 1.5),
        ({"cpu_max": "400000 100000", "job__cpu_max": "50000 100000"}, 0.5),
        ({"cpu__cpu_cfs_quota_us": "200000", "cpu__cpu_cfs_period_us": "100000"}, 2.0),
        ({"cpu__cpu_cfs_quota_us": "-1", "cpu__cpu_cfs_period_us": "100000"}, None),
        ({"cpu_max": "nonsense"}, None),
    ],
)
def test_cpu_quota(group, files, quota):
    """Both versions, the tightest limit above the process, nothing where there is none."""
    assert machine.cpu_quota(*group(**files)) == quota


@pytest.mark.parametrize(
    ("files", "kills"),
    [
        ({}, 0),
        ({"memory_events": "low 0\noom 4\noom_kill 3\n"}, 3),
        ({"job__memory_events": "oom_kill 2\n", "memory_events": "oom_kill 9\n"}, 2),
        ({"memory__memory_oom_control": "under_oom 0\noom_kill 5\n"}, 5),
    ],
)
def test_oom_kills(group, files, kills):
    """Both versions of the counter, that of the own group first."""
    assert machine.oom_kills(*group(**files)) == kills


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"memory_max": "max\n"}, None),
        ({"memory_max": "4096\n"}, 4096),
        ({"memory_max": "8192\n", "job__memory_max": "4096\n"}, 4096),
        ({"memory_max": "4096\n", "job__memory_max": "max\n"}, 4096),
        ({"memory__memory_limit_in_bytes": "4096\n"}, 4096),
        ({"memory__job__memory_limit_in_bytes": "4096\n"}, 4096),
        ({"memory__memory_limit_in_bytes": "9223372036854771712\n"}, None),
    ],
)
def test_memory(group, files, limit):
    """The tightest limit above the process, or the machine's memory."""
    everything = machine.usable_memory(*group())
    assert machine.usable_memory(*group(**files)) == (limit or everything)


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 2_048_000),
        ({"memory_max": "max", "memory_current": "700000"}, 2_048_000),
        ({"memory_max": "1000000", "memory_current": "700000"}, 300_000),
        (
            {
                "memory_max": "1000000",
                "memory_current": "700000",
                "memory_stat": "anon 500000\ninactive_file 100000\n",
            },
            400_000,
        ),
        ({"memory_max": "1000000", "memory_current": "2000000"}, 0),
        ({"job__memory_max": "1000", "job__memory_current": "600"}, 400),
        (
            {
                "memory__memory_limit_in_bytes": "1000",
                "memory__memory_usage_in_bytes": "600",
                "memory__memory_stat": "cache 100\ntotal_inactive_file 50\n",
            },
            450,
        ),
    ],
)
def test_free_memory(group, tmp_path, files, free):
    """The machine's, or what the limits leave; cache that can be dropped is free."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable: 2000 kB\n")
    assert machine.free_memory(*group(**files), meminfo) == free


def test_a_quota_is_rounded_up_to_whole_cpus(group):
    assert machine.usable_cpus(*group(cpu_max="50000 100000")) == 1
    assert machine.usable_cpus(*group(cpu_max="max 100000")) == machine.usable_cpus(*group())


def test_this_machine():
    """Whatever this machine is, the counts make sense."""
    found = machine.find_hardware({})
    assert found.cpus >= 1
    assert found.gpus >= 0
    assert 0 < machine.free_memory() <= machine.usable_memory()


@pytest.mark.parametrize(
    ("environ", "gpus"),
    [
        ({}, 4),
        ({"CUDA_VISIBLE_DEVICES": "1,3"}, 2),
        ({"CUDA_VISIBLE_DEVICES": ""}, 0),
        ({"CUDA_VISIBLE_DEVICES": "0,9,1"}, 1),
        ({"NVIDIA_VISIBLE_DEVICES": "none"}, 0),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, 4),
        ({"NVIDIA_VISIBLE_DEVICES": "0,1", "CUDA_VISIBLE_DEVICES": "1,2"}, 1),
    ],
)
def test_both_images_count_alike(monkeypatch, environ, gpus):
    """The ranks of a training and the workers of a server follow the same variables."""
    monkeypatch.setattr(machine, "_present", lambda *_: 4)
    trained, served = machine.find_hardware(environ), Settings.from_environ(environ)
    assert (trained.gpus, len(served.gpus)) == (gpus, gpus)
    assert trained.cpus == served.cpus


def test_nobody_else_counts():
    """What this module reads is read nowhere else in the package."""
    own = Path(machine.__file__)
    sources = re.compile(r"cpu_count|sched_getaffinity|SC_PHYS_PAGES|/sys/fs/cgroup|driver/nvidia")
    others = [path for path in own.parents[1].rglob("*.py") if path != own]
    assert others
    assert [path.name for path in others if sources.search(path.read_text())] == []
