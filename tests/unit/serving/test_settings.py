"""Settings, resources, restarts: small and pure."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sagemaker_byoc.contract import http, serving
from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.serving import resources
from sagemaker_byoc.serving.restarts import DEATHS_IN_WINDOW, Restarts
from sagemaker_byoc.serving.settings import Settings
from sagemaker_byoc.serving.spelling import misspelt


def test_defaults():
    """An empty environment is the real-time contract."""
    settings = Settings.from_environ({"CUDA_VISIBLE_DEVICES": ""})
    assert (settings.port, settings.payload) == (http.PORT.value, http.PAYLOAD.value)
    assert (settings.slots, settings.deadline) == (1, serving.REALTIME_DEADLINE.value)
    assert settings.gpu_of(0) is None


def test_travels():
    """Children get the same settings."""
    settings = Settings.from_environ({"CUDA_VISIBLE_DEVICES": "3,5"})
    assert Settings.from_json(settings.to_json()) == settings
    assert [settings.gpu_of(slot) for slot in range(3)] == ["3", "5", "3"]


def test_batch():
    """A batch job may ask for no limit, and waits longer."""
    environ = {"SAGEMAKER_BATCH": "True", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "0"}
    settings = Settings.from_environ(environ)
    assert (settings.payload, settings.deadline) == (None, serving.BATCH_DEADLINE.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "0"),
        ("MODEL_SERVER_WORKERS", "two"),
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT", "nan"),
        ("SAGEMAKER_BIND_TO_PORT", "80.5"),
        ("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "text/*"),
        ("BYOC_CSV_HEADER", "perhaps"),
    ],
)
def test_nonsense(name, value):
    """A value that means nothing is refused by name."""
    with pytest.raises(ContractError, match=name):
        Settings.from_environ({name: value})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SAGEMAKER_MODEL_SERVER_WORKER", "SAGEMAKER_MODEL_SERVER_WORKERS"),
        ("BYOC_BATCHES", "BYOC_BATCH"),
        ("BYOC_TARGET_LATENCY", "BYOC_TARGET_LATENCY_MS"),
        ("byoc_queue_mb", "BYOC_QUEUE_MB"),
        ("SAGEMAKER_BATCH_STRATEGY", None),
        ("SAGEMAKER_PROGRAM", None),
        ("MODEL_SERVER_TIMEOUT", None),
        ("SAGEMAKER_SOMETHING_ELSE", None),
        ("PATH", None),
    ],
)
def test_misspelt(name, meant):
    """What is nearly a variable's name is named; what has nothing to do with one is not."""
    assert misspelt([name]) == ({name: meant} if meant else {})


def test_transforms():
    """No more at once than the platform's product of requests and megabytes allows."""
    environ = {"SAGEMAKER_MODEL_SERVER_WORKERS": "40", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "20"}
    assert Settings.from_environ(environ).concurrent_transforms == 5
    assert Settings.from_environ({"BYOC_BATCH": "4"}).concurrent_transforms == 8
    unlimited = Settings.from_environ(
        {"SAGEMAKER_BATCH": "true", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "0"}
    )
    assert unlimited.transform_megabytes == 6


def test_memory(tmp_path):
    """The cgroup's limit counts, where there is one."""
    total = resources.usable_memory(tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    assert resources.usable_memory(tmp_path) == total
    (tmp_path / "memory.max").write_text("1048576\n")
    assert resources.usable_memory(tmp_path) == 2**20


def test_cgroups(tmp_path):
    """The quota of either version counts, rounded up, and never more than affinity."""
    assert resources.usable_cpus(tmp_path) >= 1
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("50000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert resources.usable_cpus(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert resources.usable_cpus(tmp_path) == resources.usable_cpus(tmp_path / "none")


def test_gpus(tmp_path):
    """Device files count, control devices do not."""
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert resources.visible_gpus({}, tmp_path) == ("0", "1")
    assert resources.visible_gpus({"CUDA_VISIBLE_DEVICES": "GPU-a, 1"}, tmp_path) == ("GPU-a", "1")


def test_back_off():
    """Delays double, and a quiet minute starts them again."""
    restarts = Restarts()
    assert [restarts.died(now) for now in (0, 30, 90, 151)] == [0.5, 1.0, 2.0, 0.5]


def test_crash_loop():
    """Too many deaths in a minute are the end; the same number over longer is not."""
    quick, slow = Restarts(), Restarts()
    assert [quick.died(now) for now in range(DEATHS_IN_WINDOW)][-1] is None
    assert all(slow.died(20.0 * now) for now in range(20))
    assert slow.died(400.0) is not None
    assert max(Restarts().died(0) or 0 for _ in range(3)) == 0.5


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("sagemaker_byoc.serving.entry", {"flask", "gunicorn", "orjson", "numpy", "torch"}),
        ("sagemaker_byoc.serving.front.gunicorn_app", {"numpy", "torch"}),
        ("sagemaker_byoc.serving.worker.loop", {"flask", "gunicorn", "torch"}),
    ],
)
def test_imports(module, forbidden):
    """Supervisor and front stay small, and a model without torch does not wait for it."""
    script = f"import sys, {module}; print(*sys.modules)"
    names = subprocess.run(
        [sys.executable, "-I", "-c", script], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not forbidden & set(names)


def test_free_memory(tmp_path):
    """The machine's, or what the cgroup leaves; cache that can be dropped is free."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable: 2000 kB\n")
    assert resources.free_memory(tmp_path, meminfo) == 2000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("700000\n")
    assert resources.free_memory(tmp_path, meminfo) == 2000 * 1024
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.stat").write_text("anon 500000\ninactive_file 100000\n")
    assert resources.free_memory(tmp_path, meminfo) == 400_000
    (tmp_path / "memory.current").write_text("2000000\n")
    assert resources.free_memory(tmp_path, meminfo) == 0


def test_free_memory_v1(tmp_path):
    """The older cgroup's files."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemAvailable: 2000 kB\n")
    folder = tmp_path / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text("1000\n")
    (folder / "memory.usage_in_bytes").write_text("600\n")
    (folder / "memory.stat").write_text("cache 100\ntotal_inactive_file 50\n")
    assert resources.free_memory(tmp_path, meminfo) == 450
