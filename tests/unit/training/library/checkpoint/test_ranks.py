"""Programs of tests/zoo/trainers as processes: several ranks, and kills at any instant."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sagemaker_byoc.training.library.checkpoint import storage

ZOO = Path(__file__).parents[4] / "zoo" / "trainers"
DEADLINE = 120  # seconds; a run takes about 5


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def start(folders, *words):
    """One process a rank, each with the folder that its host has."""
    port = free_port()
    for rank, folder in enumerate(folders):
        environ = dict(os.environ, RANK=str(rank), WORLD_SIZE=str(len(folders)))
        environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [sys.executable, ZOO / "library_ranks.py", folder, *map(str, words)]
        pipe = subprocess.PIPE
        yield subprocess.Popen(command, env=environ, text=True, stdout=pipe, stderr=pipe)


def run(folders, *words):
    """What each rank printed, by name; the test fails with a rank's own words."""
    found = []
    processes = list(start(folders, *words))
    for process in processes:
        out, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, err
        # Gloo of torch 2.10 says on stdout how many ranks are connected.
        found.append(dict(pair.split("=") for pair in out.split() if "=" in pair))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((2, "fsdp"), (1, "plain")),
        ((1, "plain"), (2, "fsdp")),
        ((2, "fsdp"), (4, "fsdp")),
        ((2, "ddp"), (1, "plain")),
        ((1, "plain"), (2, "ddp")),
        ((2, "ddp"), (2, "fsdp")),
    ],
    ids=lambda side: f"{side[0]} {side[1]}",
)
def test_a_checkpoint_loads_at_another_world_size(tmp_path, before, after):
    """The very bits of weights and moments, however they were and will be sharded."""
    (saved, *_) = run([tmp_path] * before[0], before[1], 5, "")
    (loaded, *_) = run([tmp_path] * after[0], after[1], 5, "")
    assert saved["step"] == "5"
    assert loaded["step"] == "-1"  # nothing left to do
    assert loaded["fingerprint"] == saved["fingerprint"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_ranks_that_are_told_at_different_steps_stop_at_the_same(tmp_path, kind):
    """SIGTERM at step 6 here and 11 there: one agreed step, saved, exit code 0."""
    ranks = run([tmp_path] * 2, kind, 1000, "6,11")
    assert {rank["step"] for rank in ranks} == {"9"}  # the ranks meet at 1, 5, 9, 13
    assert {rank["stopped"] for rank in ranks} == {"True"}
    assert next(iter(storage.valid_markers(tmp_path))) == 9


@pytest.mark.slow
def test_hosts_that_restored_different_sets_agree_on_what_all_have(tmp_path):
    """The newest of one host alone would leave the other behind."""
    hosts = [tmp_path / "host-0", tmp_path / "host-1"]
    run(hosts[:1] * 2, "ddp", 10, "")
    shutil.copytree(hosts[0], hosts[1])
    (hosts[1] / "step-10" / "COMPLETE").unlink()
    ranks = run(hosts, "ddp", 6, "")
    assert {rank["step"] for rank in ranks} == {"6"}  # from 5, not from 10


def losses(folder):
    """By step; each as often as it was computed."""
    found = {}
    for line in (folder / "losses").read_text().splitlines():
        words = line.split()
        if len(words) == 2:  # the last line of a killed run may be cut
            found.setdefault(int(words[0]), set()).add(words[1])
    return found


@pytest.mark.slow
def test_20_kills_at_random_instants_change_no_bit_of_any_loss(tmp_path):
    """Killed while stepping, writing, renaming or deleting: what goes on is the same run."""
    total, kills = 4000, 20
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    command = [sys.executable, str(ZOO / "library_kill9.py")]
    instants = random.Random(9)
    for _ in range(kills):
        process = subprocess.Popen([*command, killed, str(total)], stderr=subprocess.DEVNULL)
        size = (killed / "losses").stat().st_size if (killed / "losses").exists() else 0
        deadline = time.monotonic() + DEADLINE
        # Not before it trains: a kill while torch is imported tests nothing.
        while not ((killed / "losses").exists() and (killed / "losses").stat().st_size > size):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(instants.uniform(0, 0.25))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    reached = max(losses(killed))
    last = str(reached + 10)
    subprocess.run([*command, killed, last], check=True, timeout=DEADLINE)
    subprocess.run([*command, whole, last], check=True, timeout=DEADLINE)
    expected, found = losses(whole), losses(killed)
    assert reached > kills
    assert {step for step, values in found.items() if len(values) > 1} == set()
    assert found == expected
