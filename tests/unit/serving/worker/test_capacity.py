"""How many workers pay, by numbers passed in."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from sagemaker_byoc.contract import machine
from sagemaker_byoc.serving.settings import Settings
from sagemaker_byoc.serving.worker import capacity
from sagemaker_byoc.serving.worker.capacity import Decision, Loaded, decide

GB = 2**30
SMALL = Loaded(threads=1, own=GB // 8, objects=GB // 32, peak=GB // 8, free=100 * GB)


@pytest.fixture
def settings(monkeypatch):
    """Make the settings of a machine."""

    def make(cpus, **environ):
        monkeypatch.setattr(machine, "usable_cpus", lambda: cpus)
        return Settings.from_environ({"CUDA_VISIBLE_DEVICES": "", **environ})

    return make


@pytest.mark.parametrize(
    ("cpus", "workers", "threads"),
    [(1, 1, 1), (2, 2, 1), (4, 4, 1), (7, 7, 1), (8, 4, 2), (16, 4, 4), (96, 4, 24)],
)
def test_cpus(settings, cpus, workers, threads):
    """A worker computes on a quarter of the CPUs, and there are as many as that makes."""
    found = settings(cpus)
    assert found.threads == threads
    loaded = replace(SMALL, threads=threads)
    assert decide(found, loaded, is_forked=True).workers == workers


def test_threads_of_the_user(settings):
    """OMP_NUM_THREADS, or what model_fn has set, says how many CPUs a worker uses."""
    found = settings(64, OMP_NUM_THREADS="1")
    assert (found.threads, found.slots) == (1, 16)
    assert decide(found, SMALL, is_forked=True) == Decision(16, 1)
    assert decide(settings(8), replace(SMALL, threads=8), is_forked=True) == Decision(1, 8)
    assert settings(8, OMP_NUM_THREADS="nonsense").threads == 2
    assert settings(8, OMP_NUM_THREADS="4,2").threads == 4
    assert settings(2, OMP_NUM_THREADS="4").threads == 4


def test_memory(settings):
    """A forked worker shares the weights, a started one loads them; neither may lack memory."""
    large = Loaded(threads=1, own=8 * GB, objects=GB // 16, peak=10 * GB, free=6 * GB)
    assert decide(settings(4), large, is_forked=True).workers == 4
    alone = decide(settings(4), large, is_forked=False)
    assert (alone.workers, alone.threads) == (1, 4)
    assert alone.why == "each further one takes 10304 MB, and 6144 MB are free"
    given = decide(settings(4, OMP_NUM_THREADS="1"), large, is_forked=False)
    assert (given.workers, given.threads) == (1, 1)
    tight = replace(large, free=-GB)
    assert decide(settings(4), tight, is_forked=True).workers == 1
    python = replace(large, objects=4 * GB)
    assert decide(settings(4), python, is_forked=True) == Decision(
        2, 2, "each further one takes 4672 MB, and 6144 MB are free"
    )


def test_number_of_the_user(settings):
    """SAGEMAKER_MODEL_SERVER_WORKERS decides, whatever the memory."""
    found = settings(4, SAGEMAKER_MODEL_SERVER_WORKERS="3")
    none = replace(SMALL, free=0, threads=4)
    assert decide(settings(4), none, is_forked=False, of=2) == Decision(2, 4)  # decided before
    assert decide(found, none, is_forked=False) == Decision(3, 4)


def test_measured(settings, monkeypatch):
    """This process has all of it; torch's own number of threads counts if it is loaded."""
    found = settings(4)
    loaded = Loaded.measure(found)
    assert loaded.objects > 0
    assert 0 < loaded.own <= loaded.peak
    assert loaded.free <= machine.free_memory() + GB
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(get_num_threads=lambda: 3))
    assert capacity.threads_of_model(found) == 3
    monkeypatch.delitem(sys.modules, "torch")
    assert capacity.threads_of_model(found) == 1


def test_without_a_status_file(tmp_path):
    """A kernel that lacks it is not a reason to fail."""
    assert capacity._fields(tmp_path / "none") == {}
    (tmp_path / "status").write_text("Name:\tx\nVmRSS:\t  2 kB\nThreads:\t1\n")
    assert capacity._fields(tmp_path / "status") == {"VmRSS": 2048}
