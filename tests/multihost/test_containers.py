"""The training image as several hosts on a docker network."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from tests.images.conftest import NAMES
from tests.images.containers import LABEL, Container, docker, wait_until
from tests.multihost.conftest import TRAINERS

from sagemaker_byoc.contract.training.runs import parse_line

pytestmark = pytest.mark.docker
WAIT_SECONDS = 180
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def network():
    """A separate network for one job; its name also marks the containers."""
    name = f"byoc-{uuid.uuid4().hex[:12]}"
    made = docker("network", "create", "--label", f"{LABEL}={name}", name, check=False)
    if made.returncode:
        pytest.skip(f"no docker network: {made.stderr.decode().strip()}")
    yield name
    docker("network", "rm", name, check=False)


@pytest.fixture
def hosts(network):
    """Makes the hosts of a job, with two ranks each; removed afterwards."""
    made = []

    def make(count, program=None, data=None, **hyperparameters):
        """Start hosts with a zoo program, or the image's own; `data` is a folder of channels."""
        names = [f"algo-{number}" for number in range(1, count + 1)]
        for name in names:
            resources = {"current_host": name, "hosts": names, "network_interface_name": "eth0"}
            config = "/opt/ml/input/config"
            files = {
                f"{config}/hyperparameters.json": json.dumps(hyperparameters).encode(),
                f"{config}/resourceconfig.json": json.dumps(resources).encode(),
            }
            if program:
                files["/opt/ml/code/train.py"] = (TRAINERS / program).read_bytes()
            if data:
                files["/opt/ml/input/data"] = data
            options = ["--hostname", name, "--network", network, "--network-alias", name,
                       "--shm-size", "256m", "--env", "BYOC_NPROC=2"]  # fmt: skip
            made.append(Container.create(NAMES["train"], run=network, options=options, files=files))
        for host in made:
            host.start()
        return made

    yield make
    for host in made:
        print(f"--- log of {host.id[:12]}\n{host.log}")
        host.remove()


def failure(host):
    return (host.read("/opt/ml/output/failure") or b"").decode()


@pytest.mark.parametrize("count", [2, 4])
def test_allreduce(hosts, count):
    """Ranks find each other by the names of the network."""
    made = hosts(count, "allreduce.py")
    assert [host.wait(WAIT_SECONDS) for host in made] == [0] * count
    total = 2 * count * (2 * count - 1) / 2
    assert f"\nstep: 2 sum={total};" in made[0].log


def test_a_rank_that_raises(hosts):
    """Its error is in both failure files."""
    made = hosts(2, "allreduce.py", raises="2")
    assert [host.wait(WAIT_SECONDS) for host in made] == [1, 1]
    for host in made:
        assert failure(host).startswith("ValueError: rank 2 found a bad batch\n[algo-2 rank 2")


def test_a_killed_host(hosts):
    """A container that is killed ends the other, which names it."""
    made = hosts(2, "allreduce.py", steps="100000", pause="0.01")
    made[0].wait_for_log("step: 20 ", WAIT_SECONDS)
    docker("kill", made[1].id)
    wait_until(lambda: not made[0].is_running, "the other host's end", 30)
    assert made[0].wait() == 1
    assert failure(made[0]).startswith("host algo-2 has vanished")
    assert "silent" not in failure(made[0])  # its connection told, not a time


def test_stop(hosts):
    """docker stop on all hosts: every supervisor, as PID 1, passes SIGTERM on."""
    made = hosts(2, "saves_on_sigterm.py")
    for host in made:
        wait_until(lambda host=host: host.log.count("ready") == 2, "both ranks", WAIT_SECONDS)
    docker("stop", "--time", "30", *(host.id for host in made), timeout=90)
    assert [host.wait() for host in made] == [7, 7]
    assert all(host.read("/opt/ml/model/model.txt") == b"weights" for host in made)


@pytest.mark.slow
def test_digits_on_two_hosts(hosts, tmp_path):
    """The example that the image holds: two hosts, two processes each, one model, on rank 0."""
    make_data = EXAMPLES / "digits" / "make_data.py"
    subprocess.run([sys.executable, str(make_data), str(tmp_path)], check=True, capture_output=True)
    made = hosts(2, data=tmp_path, epochs="8")
    assert [host.wait(WAIT_SECONDS) for host in made] == [0, 0]
    last = [line for line in made[0].log.splitlines() if line.startswith("epoch=8;")]
    assert len(last) == 1
    assert parse_line(last[0])["test_accuracy"] > 0.95
    assert made[0].read("/opt/ml/model/model.pt")
    assert made[1].read("/opt/ml/model/model.pt") is None
