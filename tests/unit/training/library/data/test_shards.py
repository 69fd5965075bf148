"""Sharding: every record of every file is some process's own, and no two processes'."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.training.channels import Distribution
from sagemaker_byoc.training.library.process import Place, Share

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
