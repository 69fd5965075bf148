"""Programs of tests/zoo/trainers as processes: several ranks, and kills at any instant."""

import multiprocessing
import os
import random
import runpy
import shutil
import signal
import socket
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


# Forked from a process that has imported torch: the imports take longer than the programs.
PROGRAMS = multiprocessing.get_context("forkserver")
PROGRAMS.set_forkserver_preload(
    ["sagemaker_byoc.training.library.checkpoint", "torch.distributed.fsdp"]
)


def program(name, environ, output, words):
    """Run a program of the zoo in this process, its output in a file."""
    os.environ.update(environ)
    with open(output, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = [name, *words]
    runpy.run_path(str(ZOO / name), run_name="__main__")


def start(name, output, *words, **environ):
    process = PROGRAMS.Process(
        target=program, args=(name, environ, output, [str(word) for word in words]), daemon=True
    )
    process.start()
    return process


def run(folders, *words):
    """What each rank printed, by name; the test fails with a rank's own words.

    One process per rank, each with the folder that its host has.
    """
    port = free_port()
    outputs = [Path(f"{folder}.rank-{rank}") for rank, folder in enumerate(folders)]
    processes = [
        start(
            "library_ranks.py", output, folder, *words,
            RANK=str(rank), WORLD_SIZE=str(len(folders)),
            MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
        )
        for rank, (folder, output) in enumerate(zip(folders, outputs, strict=True))
    ]  # fmt: skip
    found = []
    for process, output in zip(processes, outputs, strict=True):
        process.join(DEADLINE)
        said = output.read_text()
        assert process.exitcode == 0, said
        # Gloo of torch 2.10 says on stdout how many ranks are connected.
        found.append(dict(pair.split("=") for pair in said.split() if "=" in pair))
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
    instants = random.Random(9)
    for _ in range(kills):
        size = (killed / "losses").stat().st_size if (killed / "losses").exists() else 0
        process = start("library_kill9.py", tmp_path / "said", killed, total)
        deadline = time.monotonic() + DEADLINE
        # Not before it trains: a kill before the first step tests nothing.
        while not ((killed / "losses").exists() and (killed / "losses").stat().st_size > size):
            assert process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(instants.uniform(0, 0.25))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    reached = max(losses(killed))
    for folder in (killed, whole):
        process = start("library_kill9.py", tmp_path / "said", folder, reached + 10)
        process.join(DEADLINE)
        assert process.exitcode == 0, (tmp_path / "said").read_text()
    expected, found = losses(whole), losses(killed)
    assert reached > kills
    assert {step for step, values in found.items() if len(values) > 1} == set()
    assert found == expected
