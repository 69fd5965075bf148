"""This process in its job, in a job and outside one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import Channel, InputMode, write_channels
from sagemaker_byoc.contract.training.cluster import Cluster
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters
from sagemaker_byoc.training.library.process import job


@dataclass
class Settings:
    epochs: int = 1


@pytest.fixture
def environ(tmp_path):
    """The environment of a job on the second of two hosts."""
    tree = Tree(tmp_path)
    Cluster(current_host="algo-2", hosts=("algo-1", "algo-2")).write(tree)
    Hyperparameters({"epochs": "3", "sagemaker_job_name": '"job-1"'}).write(tree)
    write_channels(tree, {"train": Channel("train", InputMode.FAST_FILE)})
    return {"SAGEMAKER_BASE_DIR": str(tmp_path)}


def test_in_a_job(environ):
    """All that the three files say, with types."""
    process = job(environ)
    assert process.name == "job-1"
    assert process.hosts == ("algo-1", "algo-2")
    assert process.host_rank == 1
    assert process.channels["train"].mode is InputMode.FAST_FILE
    assert process.hyperparameters(Settings) == Settings(epochs=3)
    assert process.tree.model.parent == process.tree.root


def test_without_a_launcher_each_host_is_one_process(environ):
    """Two hosts that run the plain script must not both be the main one."""
    process = job(environ)
    assert (process.rank, process.world_size) == (1, 2)
    assert (process.local_rank, process.local_world_size) == (0, 1)
    assert not process.is_main


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"LOCAL_WORLD_SIZE": "4"},
        {"LOCAL_RANK": "2"},
        {"LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "4"},
    ],
)
def test_under_a_launcher(environ, more):
    """torchrun's variables, and what follows where another launcher sets fewer."""
    process = job({**environ, "RANK": "6", "WORLD_SIZE": "8", **more})
    assert (process.rank, process.world_size) == (6, 8)
    assert (process.local_rank, process.local_world_size) == (2, 4)
    assert (process.place.host, process.place.hosts) == (1, 2)


@pytest.mark.parametrize(
    "broken",
    [
        {"RANK": "0"},
        {"RANK": "8", "WORLD_SIZE": "8"},
        {"RANK": "-1", "WORLD_SIZE": "8"},
        {"RANK": "0", "WORLD_SIZE": "3"},
        {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "5", "LOCAL_WORLD_SIZE": "2"},
    ],
)
def test_broken_launcher(environ, broken):
    """Ranks that can't be are refused, since they'd train on the wrong data."""
    with pytest.raises(ContractError):
        job({**environ, **broken})


def test_outside_a_job(tmp_path):
    """No files at all: one process on one host."""
    process = job({"SAGEMAKER_BASE_DIR": str(tmp_path / "nothing")})
    assert process.name == ""
    assert process.is_main
    assert process.world_size == 1
    assert not process.channels
    assert process.hyperparameters(Settings) == Settings()


def test_platform_name_wins(environ):
    """TRAINING_JOB_NAME is the platform's own."""
    assert job({**environ, "TRAINING_JOB_NAME": "real"}).name == "real"


def test_reading_data_needs_no_torch():
    """All but tokens and prefetching is standard library."""
    program = (
        "import sys; import sagemaker_byoc.training.library.data.channel; "
        "print([name for name in ('torch', 'numpy') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert found.stdout.decode().strip() == "[]"
