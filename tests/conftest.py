"""The two options of this test suite (is there a Docker engine, is there time?); a small disk."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import settings

MARKERS = {
    "docker": "needs Docker and the two images: scripts/test --run-docker",
    "slow": "starts many real processes, or takes seconds: scripts/test --run-slow",
}
_FILE_MARKS = re.compile(r"^pytestmark = (.*)$", re.MULTILINE)


def pytest_configure(config: pytest.Config) -> None:
    """Without --run-slow a property is tried on fewer examples. None of them is timed."""
    gc.disable()  # until all tests are collected: what is made until then stays
    settings.register_profile("quick", max_examples=25, deadline=None)
    settings.register_profile("whole", deadline=None)
    settings.load_profile("whole" if config.getoption("--run-slow") else "quick")
    # SIGINT is ignored in the background of a shell and SIGHUP under nohup, and what tests start
    # would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--run-docker",
        action="store_true",
        help="run the tests that need a Docker engine and the images of scripts/build-images",
    )
    parser.addoption(
        "--run-slow",
        action="store_true",
        help="run the tests that start many processes or take time",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out a file whose tests would all be left out: two of three are not even imported."""
    if collection_path.suffix != ".py" or str(collection_path) in config.args:
        return None
    marks = _FILE_MARKS.search(collection_path.read_text())
    return True if marks and any(mark in marks[1] for mark in _left_out(config)) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    out = _left_out(config)
    gone = [item for item in items if any(item.get_closest_marker(mark) for mark in out)]
    if gone:
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in set(gone)]


def pytest_collection_finish() -> None:
    """Spare the collector what collection made: that took 5 of 70 seconds of the quick ring."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_report_header(config: pytest.Config) -> list[str]:
    return [f"left out: what {MARKERS[mark]}" for mark in _left_out(config)]


def _left_out(config: pytest.Config) -> list[str]:
    return [mark for mark in MARKERS if not config.getoption(f"--run-{mark}")]


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Number binary parameters: gzip writes the time, and all workers must use the same names."""
    return argname if isinstance(val, bytes) and not val.isascii() else None


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 40 MB."""
    place = tmp_path / "small"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(place)]
    if os.getuid() != 0 or subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)
