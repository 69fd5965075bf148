"""torch.distributed over several hosts, with the supervisor's own spawner and with torchrun."""

from __future__ import annotations

import os
import signal

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("count", "processes"), [(2, 2), (4, 1)], ids=["2", "4"])
def test_allreduce(hosts, count, processes):
    """Gloo works over the names, ports and interface that the supervisor gives."""
    job = hosts(count, BYOC_NPROC=str(processes))
    job.program("allreduce.py")
    job.start()
    assert job.codes() == [0] * count, [host.err for host in job.members]
    world = processes * count
    total = world * (world - 1) / 2
    steps = [line for line in job[0].out.splitlines() if line.startswith("step:")]
    assert steps == [f"step: {step} sum={total};" for step in range(3)]


def test_a_rank_that_raises(hosts):
    """Its error is in both failure files, and not what gloo says on the other ranks."""
    job = hosts(2)
    job.program("allreduce.py", raises="3")
    job.start()
    codes = job.codes()
    assert codes == [1, 1]
    for host in job.members:
        assert host.failure.startswith("ValueError: rank 3 found a bad batch\n[algo-2 rank 3 exit")
        assert "train.py:" in host.failure


def test_a_killed_rank(hosts):
    """In the midst of all-reduces: all gone within 5 s, the cause in both files."""
    job = hosts(2)
    job.program("allreduce.py", steps="100000", pause="0.01")
    job.start()
    job.wait_for("step: 20 ")
    pids = job.all_programs()
    os.kill(pids[2], signal.SIGKILL)
    assert job.until_all_gone(pids) < 5
    for host in job.members:
        assert host.failure.startswith("ended by SIGKILL\n")
        assert "[algo-2 rank 2 exit 137]" in host.failure


def test_torchrun(hosts):
    """The same job, started by torchrun with options of the user's."""
    job = hosts(2, BYOC_TORCHRUN_ARGS="--max-restarts 0")
    job.program("allreduce.py")
    job.start()
    assert job.codes() == [0, 0], [host.err for host in job.members]
    assert "step: 2 sum=6.0;" in job[0].out
