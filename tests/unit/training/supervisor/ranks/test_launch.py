"""How many processes on which hosts: from the SDK's switches, ours, and those of others."""

from __future__ import annotations

import json
import random
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.machine import Hardware
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.cluster import Cluster, InstanceGroup
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters
from sagemaker_byoc.contract.training.job import Job
from sagemaker_byoc.training.supervisor.plan import UNSUPPORTED, Settings
from sagemaker_byoc.training.supervisor.process.child import Program
from sagemaker_byoc.training.supervisor.ranks.launch import (
    cpu_threads,
    distribution_hosts,
    make_launch,
    rank_programs,
    torchrun_program,
)

TWO = Cluster(current_host="algo-2", hosts=("algo-1", "algo-2"))


def launch(cluster=TWO, environ=None, gpus=0, **hyperparameters):
    parameters = Hyperparameters(hyperparameters)
    job = Job(Tree(), parameters, {}, cluster)
    settings = Settings(parameters, environ or {})
    assert settings.asks_for_ranks
    return make_launch(job, settings, Hardware(cpus=8, gpus=gpus))


@pytest.mark.parametrize(
    ("environ", "hyperparameters", "processes"),
    [
        ({"BYOC_NPROC": "gpu"}, {}, 4),
        ({"BYOC_NPROC": "3"}, {}, 3),
        ({"BYOC_NPROC": "3"}, {"sagemaker_byoc_nproc": '"2"'}, 2),
        ({}, {"sagemaker_byoc_nproc": "2"}, 2),
        ({}, {"sagemaker_torch_distributed_enabled": "true"}, 4),
        ({}, {"sagemaker_pytorch_ddp_enabled": '"true"'}, 4),
        ({"PET_NPROC_PER_NODE": "auto"}, {}, 4),
        ({"BYOC_TORCHRUN_ARGS": ""}, {"sagemaker_byoc_torchrun_args": "--max-restarts=2"}, 4),
    ],
)
def test_processes(environ, hyperparameters, processes):
    """Each switch alone turns the distribution on; a hyperparameter wins over the variable."""
    made = launch(environ=environ, gpus=4, **hyperparameters)
    assert (made.processes, made.hosts, made.place) == (processes, ("algo-1", "algo-2"), 1)
    assert (made.master, made.port, made.control_port) == ("algo-1", 7777, 7778)


@pytest.mark.parametrize("environ", [{}, {"BYOC_NPROC": ""}, {"RANK": "0", "WORLD_SIZE": "2"}])
def test_off(environ):
    """Without a switch nothing is on, and a false switch is none."""
    parameters = Hyperparameters({"sagemaker_torch_distributed_enabled": "false"})
    assert not Settings(parameters, environ).asks_for_ranks


def test_one_process_where_no_gpu_is():
    """`gpu` on a CPU host is one process, so that a job can be tried there."""
    assert launch(environ={"BYOC_NPROC": "gpu"}).processes == 1


@pytest.mark.parametrize("nproc", ["0", "-1", "many", "1.5", "99999"])
def test_bad_count(nproc):
    """A value that is not a count is an error that names the setting."""
    with pytest.raises(ContractError, match="BYOC_NPROC"):
        launch(environ={"BYOC_NPROC": nproc})


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_launchers_that_are_not_here(name):
    """A launcher that we don't have is an error, never a plain run of every host for itself."""
    with pytest.raises(ContractError, match="torch_distributed"):
        launch(**{name: "true"})


def test_hosts_of_the_named_groups():
    """In natural order whatever the file's; a host outside runs plainly."""
    groups = (
        InstanceGroup("cpu", "ml.c", ("algo-1",)),
        InstanceGroup("gpu", "ml.g", ("algo-11", "algo-3", "algo-2")),
    )
    hosts = ("algo-1", "algo-2", "algo-3", "algo-11")
    named = {"sagemaker_distribution_instance_groups": '["gpu"]'}
    on = {"BYOC_NPROC": "1"}
    inside = launch(Cluster("algo-3", hosts, current_group="gpu", groups=groups), on, **named)
    assert inside.hosts == ("algo-2", "algo-3", "algo-11")
    assert (inside.master, inside.place) == ("algo-2", 1)
    outside = Cluster("algo-1", hosts, current_group="cpu", groups=groups)
    assert launch(outside, on, **named) is None
    # Without a list the current group is the distribution.
    assert launch(outside, on).hosts == ("algo-1",)
    with pytest.raises(ContractError, match="tpu"):
        launch(outside, on, sagemaker_distribution_instance_groups='["tpu"]')


@given(st.permutations([f"algo-{number}" for number in range(1, 13)]), st.randoms())
def test_order_is_the_same_on_every_host(names, chance: random.Random):
    """By capacity unit, then by number, however the file has them."""
    units = {name: chance.choice(["u2", "u10"]) for name in names}
    group = InstanceGroup("all", "ml.g", tuple(names))
    cluster = Cluster(names[0], tuple(names), current_group="all", groups=(group,), topology=units)
    found = distribution_hosts(Job(Tree(), Hyperparameters({}), {}, cluster))
    number = {name: int(name.partition("-")[2]) for name in names}
    assert list(found) == sorted(names, key=lambda name: (units[name] == "u10", number[name]))


def test_one_host_needs_no_agreed_port():
    """Two jobs on one machine do not meet on a port."""
    one = launch(Cluster(), {"BYOC_NPROC": "2"})
    assert one.master == "127.0.0.1"
    assert one.port != 7777


def test_outer_variables():
    """What an operator for Kubernetes says is believed: hosts, rank, master, processes."""
    environ = {
        "PET_NNODES": "3",
        "PET_NODE_RANK": "2",
        "PET_NPROC_PER_NODE": "4",
        "PET_MASTER_ADDR": "job-master-0",
        "PET_MASTER_PORT": "23456",
        "RANK": "2",
        "WORLD_SIZE": "3",
    }
    made = launch(Cluster(), environ)
    assert (made.host, made.place, len(made.hosts), made.processes) == ("node-2", 2, 3, 4)
    assert (made.master, made.port) == ("job-master-0", 23456)
    with pytest.raises(ContractError, match="PET_NODE_RANK"):
        launch(Cluster(), {**environ, "PET_NODE_RANK": "3"})


def test_a_rank_from_outside_stays():
    """If RANK and WORLD_SIZE are set, the ranks have been started already."""
    assert launch(environ={"BYOC_NPROC": "2", "RANK": "1", "WORLD_SIZE": "2"}) is None


@pytest.mark.parametrize("port", ["x", "0", "70000"])
def test_bad_port(port):
    """A port that is none is an error."""
    with pytest.raises(ContractError, match="MASTER_PORT"):
        launch(environ={"BYOC_NPROC": "1", "MASTER_PORT": port})


TORCHRUN_SETS = {
    "RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "ROLE_NAME", "LOCAL_WORLD_SIZE", "WORLD_SIZE",
    "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
    "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS", "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_USE_AGENT_STORE", "TORCHELASTIC_ERROR_FILE",
}  # fmt: skip


def test_rank_variables(tmp_path):
    """All that torchrun sets, over hosts of different sizes."""
    made = launch(environ={"BYOC_NPROC": "2"})
    program = Program(("python", "x.py"), tmp_path, {"OMP_NUM_THREADS": "7"})
    programs = rank_programs(made, [3, 2], program, scratch=tmp_path)
    assert [program.rank for program in programs] == [3, 4]
    assert [program.label for program in programs] == ["[rank 3] ", "[rank 4] "]
    given = programs[1].environment
    assert given.keys() == TORCHRUN_SETS | {"OMP_NUM_THREADS"}
    assert (given["RANK"], given["LOCAL_RANK"], given["WORLD_SIZE"]) == ("4", "1", "5")
    assert given["OMP_NUM_THREADS"] == "7"


def test_torchrun_names_are_still_the_same():
    """Torch's own source sets no name that we don't know. Read as text: the import is slow."""
    torch = find_spec("torch")
    if torch is None:
        pytest.skip("torch is not installed")
    folder = Path(torch.submodule_search_locations[0])
    agent = folder / "distributed" / "elastic" / "agent" / "server" / "local_elastic_agent.py"
    names = set(re.findall(r'"([A-Z_]+)": ', agent.read_text()))
    assert "GROUP_RANK" in names
    assert names - TORCHRUN_SETS <= {"TORCH_NCCL_ASYNC_ERROR_HANDLING"}


@pytest.mark.parametrize(
    ("options", "lacks"),
    [("--nnodes 1:4 --max_restarts 3", "--nnodes 2"), ("--master-port=1", "--master-port 7777")],
)
def test_torchrun_command(tmp_path, options, lacks):
    """What the user says of it wins; its shutdown time is a variable, which all torchruns read."""
    made = launch(environ={"BYOC_TORCHRUN_ARGS": options}, gpus=2)
    program = Program((sys.executable, "x.py", "--lr", "1"), tmp_path, {})
    command = " ".join(torchrun_program(made, program, scratch=tmp_path).command[1:])
    assert command.startswith("-m torch.distributed.run --n")
    assert "--shutdown-timeout" not in command
    assert "--nproc-per-node 2" in command
    assert lacks not in command
    assert command.endswith(f"{options} x.py --lr 1")
    assert made.is_elastic == (":" in options)


@pytest.mark.parametrize(("cpus", "processes", "threads"), [(96, 8, 6), (2, 2, 1), (4, 1, 2)])
def test_threads(cpus, processes, threads):
    """A rank's share of the cores, at least one."""
    assert cpu_threads(cpus, processes) == threads


def test_distribution_groups_as_json_text():
    """The list may come as JSON text, as the SDK sends it."""
    text = json.dumps(["homogeneousCluster"])
    assert launch(environ={"BYOC_NPROC": "1"}, sagemaker_distribution_instance_groups=text)
