"""`byoc check` on small foreign images: each defect is found, and good images have none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.images import foreign_images
from tests.images.containers import CLIENT
from tests.images.foreign_images import ALL, DEFECTS, GOOD, Foreign

pytestmark = [pytest.mark.docker, pytest.mark.slow]

AT_ONCE = 8
"""Most of a check is waiting."""
LONGEST = {"hangs", "flood", "shell-form", "bash-lc", "no-exec", "term", "one-worker"}
"""Begun first, or all others would be waited for, and then these."""
BOUNDS = {"train": ("--train-timeout", "120"), "serve": ("--startup-timeout", "60")}
LONG_BOUNDS = {
    "loads-long",
    "ping-204",
    "ping-500",
    "ping-slow",
    "ping-hangs",
    "local-host",
    "port",
}
"""Servers that are never healthy: they cost the whole of what they are given."""


def check(foreign: Foreign, folder: Path) -> subprocess.CompletedProcess[bytes]:
    bounds = ("--startup-timeout", "6") if foreign.name in LONG_BOUNDS else BOUNDS[foreign.role]
    command = [sys.executable, "-m", "sagemaker_byoc.cli", "check", foreign.image, "--json"]
    command += [f"--{foreign.role}", *bounds, *foreign.options]
    return subprocess.run(
        command,
        capture_output=True,
        check=False,
        timeout=300,
        cwd=folder,
        env=os.environ | {"DOCKER": CLIENT},
    )


def make_inputs(folder: Path) -> None:
    """What the options of the images name."""
    (folder / "model").mkdir()
    (folder / "model" / "model.bin").write_text("weights")
    (folder / "rows.csv").write_text("1,2\n")


@pytest.fixture(scope="module")
def checks(request, tmp_path_factory):
    """All that this run selects, begun at once."""
    folder = tmp_path_factory.mktemp("foreign")
    make_inputs(folder)
    nodes = [item for item in request.session.items if item.module is request.module]
    chosen = [item.callspec.params["foreign"] for item in nodes if hasattr(item, "callspec")]
    foreign_images.build_all(chosen, folder)
    chosen.sort(key=lambda one: one.name not in LONGEST)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {one.name: pool.submit(check, one, folder) for one in chosen}


@pytest.mark.parametrize("foreign", ALL, ids=lambda foreign: foreign.name)
def test_the_verdict(checks: dict[str, Future], foreign: Foreign):
    result = checks[foreign.name].result()
    assert result.stdout, result.stderr.decode()
    report = json.loads(result.stdout)
    found = [(finding["id"], finding["what"]) for finding in report["findings"]]
    assert {identity for identity, _ in found} == foreign.found, found
    assert report["unjudged"] == []
    assert result.returncode == report["exit_code"] == foreign.expected


def test_the_zoo_is_whole():
    """Names are unique, a good image has no finding, and a defect is found by an error or not."""
    assert len({foreign.name for foreign in ALL}) == len(ALL)
    assert not any(foreign.found or foreign.expected for foreign in GOOD)
    assert all(foreign.defect for foreign in DEFECTS)
