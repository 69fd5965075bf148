"""Hosts that an operator of Kubernetes describes by variables."""

from __future__ import annotations

import pytest

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.machine import Hardware
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.cluster import Cluster
from sagemaker_byoc.training.supervisor.plan import Settings
from sagemaker_byoc.training.supervisor.ranks.hosts import master_variables, outer_hosts, read_job
from sagemaker_byoc.training.supervisor.ranks.launch import make_launch

MASTER = {"MASTER_ADDR": "digits-master-0", "MASTER_PORT": "23456"}
NOW = {**MASTER, "PET_NNODES": "3", "PET_NODE_RANK": "1", "RANK": "1", "WORLD_SIZE": "3"}
OLD = {**MASTER, "RANK": "1", "WORLD_SIZE": "3"}
ELASTIC = {"PET_NNODES": "2:4", "PET_RDZV_ENDPOINT": "digits-worker-0:29400"}


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


@pytest.mark.parametrize("environ", [NOW, OLD])
def test_the_pods_are_the_hosts(tree, environ):
    """SM_HOSTS and the host that writes the model are right without a file."""
    job = read_job(tree, environ)
    assert job.cluster.hosts == ("node-0", "node-1", "node-2")
    assert (job.cluster.current_host, job.cluster.rank) == ("node-1", 1)
    assert master_variables(job, environ) == {
        "SM_MASTER_ADDR": "digits-master-0",
        "SM_MASTER_PORT": "23456",
    }


def test_more_than_nine_pods_keep_their_order(tree):
    environ = {**NOW, "PET_NNODES": "12", "PET_NODE_RANK": "10"}
    assert read_job(tree, environ).cluster.rank == 10


@pytest.mark.parametrize("environ", [NOW, OLD])
def test_a_file_wins(tree, environ):
    """On SageMaker the platform's word counts, whatever an image or a user set."""
    Cluster(current_host="algo-2", hosts=("algo-1", "algo-2")).write(tree)
    job = read_job(tree, environ)
    assert job.cluster.hosts == ("algo-1", "algo-2")
    assert master_variables(job, environ) == {}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {**OLD, "LOCAL_RANK": "1"},
        {"RANK": "1", "WORLD_SIZE": "3"},
        {**NOW, "PET_NNODES": "1", "PET_NODE_RANK": "0"},
        ELASTIC,
        {"PET_NNODES": "2:4"},
    ],
)
def test_what_counts_no_hosts(environ):
    """Processes that someone started, one host, and hosts whose number torchrun will find."""
    assert outer_hosts(environ) == ()


@pytest.mark.parametrize(
    ("environ", "where"),
    [
        ({"PET_NNODES": "2"}, "PET_NODE_RANK"),
        ({"PET_NNODES": "2", "PET_NODE_RANK": "2"}, "PET_NODE_RANK"),
        ({"PET_NNODES": "two"}, "PET_NNODES"),
        ({"PET_NNODES": "0"}, "PET_NNODES"),
        ({"PET_NNODES": "99999999"}, "PET_NNODES"),
        ({**OLD, "RANK": "3"}, "RANK"),
        ({**OLD, "WORLD_SIZE": "all"}, "WORLD_SIZE"),
    ],
)
def test_variables_that_contradict_each_other(environ, where):
    """A pod that thinks it is the only one would train the whole model alone."""
    with pytest.raises(ContractError) as caught:
        outer_hosts(environ)
    assert caught.value.where == where


def test_an_elastic_job_is_torchruns(tree):
    """It alone can go on with another number of hosts."""
    job = read_job(tree, ELASTIC)
    settings = Settings(job.hyperparameters, ELASTIC)
    assert settings.asks_for_ranks
    made = make_launch(job, settings, Hardware(cpus=2, gpus=0))
    assert made is not None
    assert made.torchrun == ()
