"""A signal to `byoc check` at any moment leaves no container, network or folder behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.images import foreign_images
from tests.images.containers import CLIENT, docker, wait_until
from tests.images.foreign_images import GOOD

pytestmark = [pytest.mark.docker, pytest.mark.slow]

IMAGES = {foreign.name: foreign for foreign in GOOD}
CLIENT_SCRIPT = """#!/bin/sh
echo "$1 $2" >> {folder}/calls
if [ "$1 $2" = "{moment}" ] || [ "$1" = "{moment}" ]; then
  touch {folder}/there
  while [ ! -e {folder}/sent ]; do sleep 0.02; done
fi
exec {client} "$@"
"""
TRAINING = ("create", "cp", "start", "wait", "logs", "exec", "network create", "network rm", "rm")
SERVING = ("create", "start", "container inspect", "rm")


@pytest.fixture(scope="module", autouse=True)
def built(tmp_path_factory):
    chosen = [IMAGES["long"], IMAGES["static-train"], IMAGES["static-serve"]]
    foreign_images.build_all(chosen, tmp_path_factory.mktemp("built"))


@contextmanager
def checking(
    folder: Path, name: str, *options: str, moment: str = ""
) -> Iterator[subprocess.Popen]:
    """A check whose docker client waits, at one moment, until the signal is sent."""
    script = folder / "docker"
    script.write_text(CLIENT_SCRIPT.format(folder=folder, moment=moment, client=CLIENT))
    script.chmod(0o755)
    command = [sys.executable, "-m", "sagemaker_byoc.cli", "check", IMAGES[name].image]
    (folder / "tmp").mkdir(exist_ok=True)
    process = subprocess.Popen(
        [*command, f"--{IMAGES[name].role}"],
        env=os.environ | {"DOCKER": str(script), "TMPDIR": str(folder / "tmp")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def things(process: subprocess.Popen) -> list[str]:
    """Containers and networks of that check, by the identity of its process."""
    found = []
    for listing in (["ps", "--all"], ["network", "ls"]):
        form = '{{.ID}} {{.Label "sagemaker-byoc.owner"}}'
        lines = docker(*listing, "--filter", "label=sagemaker-byoc.check", "--format", form).stdout
        for line in lines.decode().splitlines():
            name, _, owner = line.partition(" ")
            if owner.startswith(f"{process.pid}/"):
                found.append(name)
    return found


def assert_nothing_is_left(process: subprocess.Popen, folder: Path):
    assert things(process) == []
    assert not [*(folder / "tmp").glob("byoc-check-*")]


@pytest.mark.parametrize(
    ("name", "moment"),
    [*(("static-train", moment) for moment in TRAINING),
     *(("static-serve", moment) for moment in SERVING)],
)  # fmt: skip
def test_a_signal_at_each_moment(tmp_path, name, moment):
    """The client that runs finishes its work, as one does that is slower than the signal."""
    numbers = {"create": signal.SIGTERM, "start": signal.SIGHUP}
    number = numbers.get(moment, signal.SIGINT)
    with checking(tmp_path, name, moment=moment) as process:
        wait_until((tmp_path / "there").exists, f"the moment {moment!r}")
        process.send_signal(number)
        (tmp_path / "sent").touch()
        assert process.wait(60) == 128 + number
        assert_nothing_is_left(process, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_reaches_the_whole_group(tmp_path, number):
    """As the terminal sends it: to the docker client that runs as well."""
    with checking(tmp_path, "long") as process:
        wait_until(lambda: things(process), "a container")
        os.killpg(process.pid, number)
        os.killpg(process.pid, number)
        assert process.wait(60) == 128 + number
        assert_nothing_is_left(process, tmp_path)


def test_what_a_killed_check_left_is_removed_by_the_next(tmp_path):
    """Its own only: another check that still runs keeps its container."""
    folders = {name: tmp_path / name for name in ("living", "killed", "next")}
    (tmp_path / "tmp").mkdir()
    for folder in folders.values():
        folder.mkdir()
        (folder / "tmp").symlink_to(tmp_path / "tmp")
    with (
        checking(folders["living"], "long") as living,
        checking(folders["killed"], "long") as killed,
    ):
        wait_until(lambda: things(living) and things(killed), "two containers")
        killed.kill()
        killed.wait()
        with checking(folders["next"], "static-train") as following:
            assert following.wait(120) == 0
        assert things(killed) == []
        assert things(living)
        assert len([*(tmp_path / "tmp").glob("byoc-check-*")]) == 1, "the living one's"
        living.terminate()
        assert living.wait(60) == 128 + signal.SIGTERM
        assert_nothing_is_left(living, folders["living"])
