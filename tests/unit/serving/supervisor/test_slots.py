"""A slot: the environment of its worker, and when that is started again."""

from __future__ import annotations

from pathlib import Path

from sagemaker_byoc.serving.settings import Settings
from sagemaker_byoc.serving.supervisor.slots import (
    DEATHS_IN_WINDOW,
    Restarts,
    worker_environ,
)


def test_worker_of_a_user_without_a_home(monkeypatch, tmp_path):
    """Its home can be written, whatever the container's user is; a usable one stays."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("HOME", __file__)
    home = Path(worker_environ(Settings.from_environ({}), 0)["HOME"])
    assert home.parent == tmp_path
    assert home.is_dir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert worker_environ(Settings.from_environ({}), 0)["HOME"] == str(tmp_path)


def test_huge_pages_are_asked_for(monkeypatch):
    """For weights; not against the user's word."""
    name = "THP_MEM_ALLOC_ENABLE"
    monkeypatch.delenv(name, raising=False)
    assert worker_environ(Settings.from_environ({}), 0)[name] == "1"
    monkeypatch.setenv(name, "0")
    assert worker_environ(Settings.from_environ({}), 0)[name] == "0"


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
