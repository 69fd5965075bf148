"""This process in its job: its names, ranks, hyperparameters, and its share of the data."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import (
    Channel,
    Distribution,
    InputMode,
    write_channels,
)
from sagemaker_byoc.contract.training.cluster import Cluster
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters
from sagemaker_byoc.training.library.process import Place, Share, job


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


COUNTS = st.integers(1, 5)


def places(hosts, ranks):
    return [Place.uniform(rank, hosts * ranks, hosts) for rank in range(hosts * ranks)]


@given(COUNTS, COUNTS, st.integers(0, 40))
def test_replicated(hosts, ranks, files):
    """Every host has all files; together all processes read each one once."""
    shares = [place.share(Distribution.REPLICATED) for place in places(hosts, ranks)]
    read = [file for share in shares for file in share.of(range(files))]
    assert sorted(read) == list(range(files))


@given(COUNTS, COUNTS, st.data())
def test_sharded_by_key(hosts, ranks, data):
    """Every host has its own files; its processes read each one once."""
    own = [[f"{host}/{n}" for n in range(data.draw(st.integers(0, 9)))] for host in range(hosts)]
    read = Counter(
        file
        for place in places(hosts, ranks)
        for file in place.share(Distribution.SHARDED).of(own[place.host])
    )
    assert read == Counter(file for files in own for file in files)


@given(COUNTS, COUNTS, COUNTS, st.integers(0, 40))
def test_workers_of_a_process(hosts, ranks, workers, files):
    """Data workers divide their process's share further, and agree on the hosts."""
    everyone = [
        (place, place.worker(index, workers))
        for place in places(hosts, ranks)
        for index in range(workers)
    ]
    assert all(worker.host == place.host for place, worker in everyone)
    shares = [worker.share(Distribution.REPLICATED) for _, worker in everyone]
    assert sorted(n for share in shares for n in share.of(range(files))) == list(range(files))


BLOCKS = st.lists(st.integers(0, 9), max_size=6)


def picked(index, count, blocks, *, even):
    """One share of numbers that come in blocks of some sizes."""
    numbers = iter(range(sum(blocks)))
    stream = [list(itertools.islice(numbers, size)) for size in blocks]
    return [item for block in Share(index, count).pick(stream, even=even) for item in block]


@given(COUNTS, BLOCKS)
def test_even_shares(count, blocks):
    """Equally long, nothing twice, and less than one round left out."""
    items = sum(blocks)
    shares = [picked(index, count, blocks, even=True) for index in range(count)]
    assert {len(share) for share in shares} == {items // count}
    assert len({item for share in shares for item in share}) == items // count * count


@given(COUNTS, BLOCKS)
def test_uneven_shares(count, blocks):
    """Nothing is lost, and the lengths differ by one at most."""
    shares = [picked(index, count, blocks, even=False) for index in range(count)]
    assert sorted(item for share in shares for item in share) == list(range(sum(blocks)))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(COUNTS, COUNTS)
def test_pipe_is_shared_by_hosts(hosts, ranks):
    """One process reads for its host: a share of hosts where each host gets the same bytes."""
    for place in places(hosts, ranks):
        assert place.pipe_share(Distribution.REPLICATED) == Share(place.host, hosts)
        assert place.pipe_share(Distribution.SHARDED) == Share(0, 1)


def test_local_world():
    """A process among those of its host only."""
    assert Place(5, 8, 1, 4).local == Place(1, 4, 1, 4)


def test_uneven_hosts():
    """Processes that don't divide by the hosts need their local rank to be given."""
    with pytest.raises(ContractError, match="not the same number on each"):
        Place.uniform(0, 3, 2)
