"""CPUs and GPUs are counted as the container may use them."""

from __future__ import annotations

import pytest

from sagemaker_byoc.training.supervisor import cgroup, hardware


@pytest.fixture
def gpus(tmp_path):
    """The count for a machine with some GPUs, and an environment."""

    def count(listed, files, **environ):
        for number in range(listed):
            (tmp_path / "proc" / f"0000:{number}").mkdir(parents=True)
        devices = tmp_path / "dev"
        devices.mkdir()
        for name in ("nvidiactl", "nvidia-uvm", *(f"nvidia{number}" for number in range(files))):
            (devices / name).touch()
        return hardware.count_gpus(environ, tmp_path / "proc", devices)

    return count


@pytest.mark.parametrize(
    ("listed", "files", "environ", "count"),
    [
        (0, 0, {}, 0),
        (0, 0, {"CUDA_VISIBLE_DEVICES": "0,1"}, 0),
        (8, 8, {}, 8),
        (8, 1, {}, 1),
        (0, 2, {}, 2),
        (4, 0, {"NVIDIA_VISIBLE_DEVICES": "all"}, 4),
        (4, 4, {"NVIDIA_VISIBLE_DEVICES": "none"}, 0),
        (4, 4, {"CUDA_VISIBLE_DEVICES": "1,3"}, 2),
        (4, 4, {"CUDA_VISIBLE_DEVICES": ""}, 0),
        (4, 4, {"CUDA_VISIBLE_DEVICES": "0,-1,2"}, 1),
        (1, 1, {"CUDA_VISIBLE_DEVICES": "MIG-a,MIG-b"}, 2),
    ],
)
def test_gpus(gpus, listed, files, environ, count):
    """From the driver's list, the device files and the two variables, without nvidia-smi."""
    assert gpus(listed, files, **environ) == count


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
    assert cgroup.cpu_quota(*group(**files)) == quota


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
    assert cgroup.oom_kills(*group(**files)) == kills


def test_this_machine():
    """Whatever this machine is, the counts make sense."""
    found = hardware.find_hardware({})
    assert found.cpus >= 1
    assert found.gpus >= 0
