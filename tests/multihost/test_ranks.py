"""Ranks over several hosts: who they are, how they end, and what every host says about it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from tests.multihost.conftest import group, wait_until

pytestmark = pytest.mark.slow  # real processes

WAITS = "import signal\nprint('ready')\nwhile True: signal.pause()\n"
RANK = "import os, sys, time\nrank = int(os.environ['RANK'])\n"


def facts(hosts):
    """What rank_facts.py printed, by rank."""
    assert hosts.codes() == [0] * len(hosts.members), [host.err for host in hosts.members]
    lines = [line for host in hosts.members for line in host.out.splitlines()]
    found = [json.loads(line[line.index("{") :]) for line in lines]
    return sorted(found, key=lambda given: int(given["RANK"]))


def test_variables(hosts):
    """Ranks are numbered over the hosts, and all hosts agree on the rest."""
    job = hosts(2)
    job.program("rank_facts.py", lr="1")
    job.start()
    found = facts(job)
    assert [given["RANK"] for given in found] == ["0", "1", "2", "3"]
    assert [given["LOCAL_RANK"] for given in found] == ["0", "1", "0", "1"]
    assert [given["GROUP_RANK"] for given in found] == ["0", "0", "1", "1"]
    for given in found:
        assert given["WORLD_SIZE"] == "4"
        assert (given["MASTER_ADDR"], given["MASTER_PORT"]) == ("algo-1", "7777")
        assert given["GLOO_SOCKET_IFNAME"] == given["NCCL_SOCKET_IFNAME"] == "eth0"
        assert given["argv"] == ["--lr", "1"]
    assert job[0].out.splitlines()[0].startswith(("{", "[rank 1] {"))
    assert {line[:8] for line in job[1].out.splitlines()} == {"[rank 2]", "[rank 3]"}


def test_uneven_hosts(hosts):
    """Hosts with different numbers of processes make one world; the user's variables stay."""
    job = hosts(2, GLOO_SOCKET_IFNAME="mine0", OMP_NUM_THREADS="7", MASTER_PORT="7900")
    job.program("rank_facts.py")
    job.start(algo_1={"BYOC_NPROC": "1"}, algo_2={"BYOC_NPROC": "3"})
    found = facts(job)
    assert [given["RANK"] for given in found] == ["0", "1", "2", "3"]
    assert [given["LOCAL_WORLD_SIZE"] for given in found] == ["1", "3", "3", "3"]
    names = ("GLOO_SOCKET_IFNAME", "OMP_NUM_THREADS", "MASTER_PORT")
    assert {tuple(given[name] for name in names) for given in found} == {("mine0", "7", "7900")}


def test_group_without_the_first_host(hosts):
    """The master is in the distribution, and the host outside runs its program plainly."""
    job = hosts(3)
    groups = [group("cpu", "algo-1"), group("gpu", "algo-3", "algo-2")]
    job.text(
        "import os\nprint(os.environ.get('RANK'), os.environ['SM_MASTER_ADDR'])",
        groups,
        sagemaker_distribution_instance_groups='["gpu"]',
    )
    job.start()
    assert job.codes() == [0, 0, 0]
    assert job[0].out == "None algo-1\n"
    assert sorted(job[1].out.splitlines()) == ["0 algo-2", "[rank 1] 1 algo-2"]
    assert sorted(job[2].out.splitlines()) == ["[rank 2] 2 algo-2", "[rank 3] 3 algo-2"]


@pytest.mark.parametrize("victim", [0, 3])
def test_a_killed_rank_ends_all(hosts, victim):
    """Every process on every host is gone within 5 s, and every host names the cause."""
    job = hosts(2)
    job.text(WAITS)
    job.start()
    job.wait_for("ready", count=4)
    pids = job.all_programs()
    os.kill(pids[victim], signal.SIGKILL)
    seconds = job.until_all_gone(pids)
    assert seconds < 5
    assert job.codes() == [137, 137]
    name = f"algo-{victim // 2 + 1}"
    for host in job.members:
        assert host.failure.startswith("ended by SIGKILL\n"), host.err
        assert f"[{name} rank {victim} exit 137]" in host.failure


def test_stubborn_ranks_are_killed(hosts):
    """Ranks that ignore SIGTERM are gone within 5 s as well."""
    job = hosts(2)
    ignore = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    job.text(ignore + WAITS)
    job.start()
    job.wait_for("ready", count=4)
    pids = job.all_programs()
    os.kill(pids[0], signal.SIGKILL)
    assert job.until_all_gone(pids) < 5
    assert all("rank 0 exit 137" in host.failure for host in job.members)


@pytest.mark.parametrize("delay", [0.0, 0.3, -0.3])
def test_an_echo_is_not_the_cause(hosts, delay):
    """`Connection closed by peer` loses against the error behind it, whichever comes first."""
    job = hosts(2)
    job.text(
        f"{RANK}if rank in (1, 2): time.sleep(0.6)\n"
        f"if rank == 1: time.sleep(max(0, {delay})); raise ValueError('the cause')\n"
        f"if rank == 2: time.sleep(max(0, {-delay})); raise OSError('Connection closed by peer')\n"
        "time.sleep(60)\n"
    )
    job.start()
    job.codes()
    for host in job.members:
        assert host.failure.startswith("ValueError: the cause\n[algo-1 rank 1 exit 1]"), host.err


def test_the_earliest_cause_wins(hosts):
    """If both hosts fail by themselves, the first error is the cause on both."""
    job = hosts(2)
    job.text(
        f"{RANK}time.sleep(0.5 if rank == 3 else 0.7 if rank == 0 else 60)\n"
        "raise ValueError(f'rank {rank}')\n"
    )
    job.start()
    job.codes()
    assert all(host.failure.startswith("ValueError: rank 3") for host in job.members)


def test_sigterm_to_all(hosts):
    """A stop is not a failure of a rank: each saves what it has, and its code is kept."""
    job = hosts(2)
    job.program("saves_on_sigterm.py")
    job.start()
    job.wait_for("ready", count=4)
    for host in job.members:
        host.process.send_signal(signal.SIGTERM)
    assert job.codes() == [7, 7]
    for host in job.members:
        assert (host.tree.model / "model.txt").read_text() == "weights"
        assert "failed" not in host.failure


def test_sigterm_to_one(hosts):
    """The other hosts are asked to stop as well, and get their time to save."""
    job = hosts(2)
    job.program("saves_on_sigterm.py")
    job.start()
    job.wait_for("ready", count=4)
    job[1].process.send_signal(signal.SIGTERM)
    assert job.codes() == [7, 7]
    assert (job[0].tree.model / "model.txt").read_text() == "weights"
    assert "byoc: algo-2 was stopped by SIGTERM" in job[0].err


@pytest.mark.parametrize("victim", [0, 1])
def test_a_vanished_host_is_named(hosts, victim):
    """A host that dies ends the others, whose failure files name it."""
    job = hosts(2)
    job.text(WAITS)
    job.start()
    job.wait_for("ready", count=4)
    survivor = job[1 - victim]
    job.kill_host(job[victim])
    assert survivor.process.wait(20) == 1
    assert "silent" not in survivor.failure  # its connection told, not a time
    assert survivor.failure.startswith(f"host algo-{victim + 1} has vanished")


def test_a_silent_host_is_named(hosts):
    """A host that neither works nor closes its connections is lost after some time."""
    job = hosts(2, BYOC_LOST_SECONDS="2")
    job.text(WAITS)
    job.start()
    job.wait_for("ready", count=4)
    job[1].process.send_signal(signal.SIGSTOP)
    assert job[0].process.wait(20) == 1
    assert job[0].failure.startswith("host algo-2 has vanished (silent for 2 s)")
    job[1].process.send_signal(signal.SIGCONT)
    assert job[1].process.wait(20)
    assert "algo-1 has vanished" in job[1].failure or "algo-2 has vanished" in job[1].failure


def test_a_host_without_a_name(hosts):
    """Which host can't be found is said by every host that can."""
    job = hosts(2, BYOC_DNS_SECONDS="1")
    job.text("")
    for host in job.members:
        config = json.loads(host.tree.resource_config_file.read_text())
        config["hosts"] += ["algo-99", "algo-98"]
        config["instance_groups"][0]["hosts"] += ["algo-99", "algo-98"]
        host.tree.resource_config_file.write_text(json.dumps(config))
    job.start()
    assert job.codes() == [2, 2]
    for host in job.members:
        assert host.failure.startswith("host algo-98, algo-99: did not resolve")


def test_a_host_that_never_joins(hosts):
    """A host that has a name and no supervisor is named too."""
    job = hosts(2, BYOC_DNS_SECONDS="1")
    job.text("")
    job[0].start(job.environ)
    assert job[0].process.wait(20) == 2
    assert job[0].failure.startswith("host algo-2: did not join the job within 1 s")


def test_strangers_change_nothing(hosts):
    """Whatever is sent to the control port by no host of the job is refused."""
    job = hosts(2)
    job.text(WAITS + "")
    job[0].start(job.environ)
    wait_until(lambda: "over 2" in job[0].err or knock(job, b"GET / HTTP/1.1\r\n\r\n"), "the port")
    knock(job, b'{"kind": "hello", "run": "other", "host": "algo-2", "processes": 2}\n')
    knock(job, b'{"kind": "verdict"}\n')
    knock(job, b"x" * 100_000)
    job[1].start(job.environ)
    job.wait_for("ready", count=4)
    knock(job, b'{"kind": "failed", "rank": 0}\n')
    knock(job, b'{"kind": "hello", "run": "byoc", "host": "algo-2", "processes": 2}\n')
    for host in job.members:
        host.process.send_signal(signal.SIGTERM)
    assert job.codes() == [143, 143]


def knock(job, data):
    """Send to the first host's control port, from the second host; True if there was one."""
    source = (
        "import socket, sys\n"
        "s = socket.create_connection(('algo-1', 7778), 2)\n"
        "s.sendall(sys.stdin.buffer.read())\n"
        "s.settimeout(1)\n"
        "try: s.recv(10)\n"
        "except OSError: pass\n"
    )
    command = ["ip", "netns", "exec", job[1].space, sys.executable, "-c", source]
    return not subprocess.run(command, input=data, check=False, capture_output=True).returncode


def test_a_hang_ends_with_stacks(hosts):
    """A host whose ranks are silent because only rank 0 prints does not hang; a stuck job does."""
    job = hosts(2, BYOC_HANG_SECONDS="2")
    job.text(
        f"{RANK}end = time.monotonic() + 3\n"
        "while time.monotonic() < end:\n"
        "    if rank == 0: print('step')\n"
        "    time.sleep(0.1)\n"
        "def stuck(): time.sleep(100)\n"
        "stuck()\n"
    )
    begin = time.monotonic()
    job.start()
    assert job.codes() == [134, 134]
    assert time.monotonic() - begin > 5
    for host in job.members:
        assert host.failure.startswith("hang: no progress for 2 s"), host.err
        assert "in stuck" in host.failure
        assert host.err.count("in stuck") == 2


def test_one_rank_without_steps_hangs(hosts):
    """If ranks report their steps, one that stops reporting hangs, whatever else is printed."""
    job = hosts(2, BYOC_HANG_SECONDS="2")
    job.text(
        f"{RANK}from pathlib import Path\n"
        "step = 0\n"
        "while True:\n"
        "    step += 1\n"
        "    if rank != 3 or step < 10: Path(os.environ['BYOC_PROGRESS_FILE']).touch()\n"
        "    print('alive')\n"
        "    time.sleep(0.1)\n"
    )
    job.start()
    assert job.codes() == [134, 134]
    assert all(host.failure.startswith("hang: ") for host in job.members)
