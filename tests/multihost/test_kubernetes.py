"""Pods of a Kubernetes operator: the hosts come from variables, and no file says who they are."""

from __future__ import annotations

import json

import pytest
from tests.multihost.conftest import NETWORK

pytestmark = pytest.mark.slow  # real processes

PORT = "23456"
SHOWS = """
import json, os
names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "SM_HOSTS",
         "SM_CURRENT_HOST", "SM_CURRENT_HOST_RANK", "SM_MASTER_ADDR", "SM_MASTER_PORT")
print(json.dumps({name: os.environ.get(name) for name in names}))
"""
REDUCES = """
import torch
import torch.distributed as dist
dist.init_process_group("gloo")
total = torch.tensor([float(dist.get_rank() + 1)])
dist.all_reduce(total)
print(f"sum={total.item():g} of {dist.get_world_size()}")
dist.destroy_process_group()
"""


def pods(hosts, source, **environ):
    """A job of two pods, without resourceconfig.json."""
    given = {"MASTER_ADDR": "algo-1", "MASTER_PORT": PORT, **environ}
    job = hosts(2, BYOC_NPROC="", **given)
    job.text(source)
    for host in job.members:
        host.tree.resource_config_file.unlink()
    return job


def facts(job):
    assert job.codes() == [0, 0], [host.err for host in job.members]
    lines = [line for host in job.members for line in host.out.splitlines()]
    return sorted((json.loads(line[line.index("{") :]) for line in lines), key=lambda f: f["RANK"])


def numbered(*names):
    """Variables that number the pods, for Hosts.start."""
    return {f"algo_{index + 1}": dict.fromkeys(names, str(index)) for index in range(2)}


def test_pytorchjob(hosts):
    """Two processes per pod, as spec.nprocPerNode asks; the ranks span both pods."""
    job = pods(hosts, SHOWS, PET_NNODES="2", PET_NPROC_PER_NODE="2", WORLD_SIZE="4")
    job.start(**numbered("RANK", "PET_NODE_RANK"))
    found = facts(job)
    assert [given["RANK"] for given in found] == ["0", "1", "2", "3"]
    assert [given["LOCAL_RANK"] for given in found] == ["0", "1", "0", "1"]
    assert [given["SM_CURRENT_HOST_RANK"] for given in found] == ["0", "0", "1", "1"]
    for given in found:
        assert given["WORLD_SIZE"] == "4"
        assert given["SM_HOSTS"] == '["node-0","node-1"]'
        assert (given["MASTER_ADDR"], given["MASTER_PORT"]) == ("algo-1", PORT)
        assert (given["SM_MASTER_ADDR"], given["SM_MASTER_PORT"]) == ("algo-1", PORT)


def test_an_older_operator(hosts):
    """RANK and WORLD_SIZE alone count pods: one plain process in each, which knows its place."""
    job = pods(hosts, SHOWS, WORLD_SIZE="2")
    job.start(**numbered("RANK"))
    found = facts(job)
    assert [given["RANK"] for given in found] == ["0", "1"]
    assert [given["SM_CURRENT_HOST"] for given in found] == ["node-0", "node-1"]
    assert {given["SM_MASTER_ADDR"] for given in found} == {"algo-1"}


@pytest.mark.parametrize(
    "nproc",
    # A pod's own name resolves to its address, by which gloo finds it; these hosts share one name.
    [{"PET_NPROC_PER_NODE": "auto"}, {"GLOO_SOCKET_IFNAME": "eth0"}],
)
def test_gradients_travel_between_pods(hosts, nproc):
    """With our ranks, and with the operator's own, of which each pod is one."""
    pytest.importorskip("torch")
    job = pods(hosts, REDUCES, PET_NNODES="2", WORLD_SIZE="2", **nproc)
    job.start(**numbered("RANK", "PET_NODE_RANK"))
    assert job.codes() == [0, 0], [host.err for host in job.members]
    assert [host.out.splitlines()[-1].partition("sum")[2] for host in job.members] == [
        "=3 of 2"
    ] * 2


def test_a_pod_that_fails_ends_the_other(hosts):
    """And both say why, as on SageMaker."""
    source = (
        "import os, time\n"
        "if os.environ['RANK'] == '1': raise ValueError('the cause')\n"
        "time.sleep(60)"
    )
    job = pods(hosts, source, PET_NNODES="2", PET_NPROC_PER_NODE="1", WORLD_SIZE="2")
    job.start(**numbered("RANK", "PET_NODE_RANK"))
    assert all(job.codes())
    for host in job.members:
        assert host.failure.startswith("ValueError: the cause\n[node-1 rank 1"), host.err


def test_an_elastic_job(hosts):
    """No ranks are given, and the number of pods may change: torchrun finds them."""
    pytest.importorskip("torch")
    environ = {
        "PET_NNODES": "2:2",
        "PET_NPROC_PER_NODE": "1",
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": "algo-1:29400",
        "PET_RDZV_ID": "digits",
        "GLOO_SOCKET_IFNAME": "eth0",
    }
    job = pods(hosts, REDUCES, MASTER_ADDR="", MASTER_PORT="", **environ)
    # A pod's own name resolves to its address, by which torchrun finds itself; that of these hosts
    # does not.
    job.start(
        **{
            f"algo_{n}": {
                "PET_LOCAL_ADDR": f"{NETWORK}.{n}",
                "PET_RDZV_CONF": f"is_host={int(n == 1)}",
            }
            for n in (1, 2)
        }
    )
    assert job.codes() == [0, 0], [host.err for host in job.members]
    assert all("sum=3 of 2" in host.out for host in job.members)
    assert all("torchrun on this host; others meet at algo-1:29400" in h.err for h in job.members)
