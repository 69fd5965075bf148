"""Prefetching: nothing lost, nothing twice, nothing hidden."""

from __future__ import annotations

import gc
import threading
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sagemaker_byoc.training.library.data.prefetch import Prefetch
from sagemaker_byoc.training.library.data.tokens import TokenDataset

pytestmark = pytest.mark.slow  # real processes


class Numbers:
    """A source with a state; says how far it got, and may be held up."""

    def __init__(self, end=1 << 30):
        self.next, self.end = 0, end
        self.may_go = threading.Event()
        self.may_go.set()

    def __iter__(self):
        return self

    def __next__(self):
        assert self.may_go.wait(30)
        if self.next >= self.end:
            raise StopIteration
        self.next += 1
        return self.next - 1

    def state_dict(self):
        return {"next": self.next}

    def load_state_dict(self, state):
        self.next = state["next"]


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    gc.collect()
    for thread in threads():
        thread.join(30)
    assert not threads()


@given(st.integers(0, 9), st.integers(1, 4))
def test_all_batches_in_order(end, depth):
    """As the source gives them, then the end, again and again."""
    batches = Prefetch(iter(range(end)), depth=depth)
    assert list(batches) == list(range(end))
    assert list(batches) == []


def test_bounded():
    """No more than `depth` ahead, however slow the consumer is."""
    source = Numbers()
    with Prefetch(source, depth=2) as batches:
        for expected in range(20):
            assert next(batches) == expected
            assert source.next <= expected + 1 + 2


@given(st.integers(0, 12), st.integers(1, 4))
def test_state_is_the_consumers(taken, depth):
    """Saved after any batch and at any depth, the next run goes on with the next batch."""
    with Prefetch(Numbers(), depth=depth) as batches:
        for _ in range(taken):
            next(batches)
        state = batches.state_dict()
        next(batches)
        batches.load_state_dict(state)
        assert next(batches) == taken
    with Prefetch(Numbers(), depth=depth) as other:
        other.load_state_dict(state)
        assert [next(other), next(other)] == [taken, taken + 1]


def test_closed_source_is_where_the_consumer_was():
    """What was made ahead is not lost with the prefetcher."""
    source = Numbers()
    with Prefetch(source, depth=3) as batches:
        next(batches)
        next(batches)
    assert next(source) == 2
    assert list(batches) == []


def test_error_comes_after_the_batches_before_it():
    """The source's own exception, at its place, once."""

    def source():
        yield 1
        yield 2
        raise ValueError("torn")

    batches = Prefetch(source())
    assert [next(batches), next(batches)] == [1, 2]
    with pytest.raises(ValueError, match="torn"):
        next(batches)
    assert list(batches) == []


def test_early_close_ends_the_source():
    """A generator is closed, so that a file or FIFO in it is too."""
    closed = threading.Event()

    def source():
        try:
            while True:
                yield 1
        finally:
            closed.set()

    with Prefetch(source()) as batches:
        next(batches)
    assert closed.is_set()
    batches.close()


def test_dropped_without_close():
    """Its thread goes with it."""
    batches = Prefetch(Numbers())
    next(batches)
    del batches
    gc.collect()


def test_closed_before_it_started():
    """No thread for nothing."""
    with Prefetch(Numbers()) as batches:
        pass
    assert not threads()
    assert list(batches) == []


def test_wait_is_reported():
    """The time for which the step stood still, by batch and in all."""
    source = Numbers()
    source.may_go.clear()
    with Prefetch(source, depth=1) as batches:
        timer = threading.Timer(0.05, source.may_go.set)
        timer.start()
        next(batches)
        timer.join()
        waited = batches.data_wait_ms
        assert waited >= 40
        next(batches)
        assert batches.total_wait_ms == waited + batches.data_wait_ms


def test_source_without_state():
    """Is prefetched all the same, and says that it has none."""
    with Prefetch([1, 2]) as batches:
        assert next(batches) == 1
        with pytest.raises(TypeError, match="list has no state to save"):
            batches.state_dict()
        with pytest.raises(TypeError, match="list has no state to load"):
            batches.load_state_dict({})


class Pair(NamedTuple):
    inputs: torch.Tensor
    name: str


def test_batches_of_any_shape():
    """Tensors in tuples, lists and dicts are moved, all else stays as it is."""
    tensor = torch.arange(3)
    batch = {"a": [tensor, 1], "b": (Pair(tensor, "x"),)}
    with Prefetch([batch], device="meta") as batches:
        moved = next(batches)
    assert moved["a"][0].is_meta
    assert moved["a"][1] == 1
    assert moved["b"][0].inputs.is_meta
    assert moved["b"][0].name == "x"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_the_gpu():
    """What arrives is what was sent, while the consumer's stream is busy."""
    batches = [torch.randint(1 << 30, (1 << 20,)) for _ in range(20)]
    busy = torch.randn(4096, 4096, device="cuda")
    with Prefetch(batches, device="cuda") as ahead:
        for batch, expected in zip(ahead, batches, strict=True):
            busy = busy @ busy
            assert torch.equal((batch * 1).cpu(), expected)


def test_token_batches_resume_exactly(tmp_path):
    """The pieces together: a checkpoint in the middle of prefetched token batches."""
    np.save(tmp_path / "a.npy", np.arange(1000, dtype=np.uint16))
    dataset = TokenDataset([tmp_path / "a.npy"], 8)
    expected = [batch.tolist() for batch in dataset.batches(4, epochs=2)]
    with Prefetch(dataset.batches(4, epochs=2), depth=3) as first:
        taken = [next(first).tolist() for _ in range(20)]
        state = first.state_dict()
    with Prefetch(dataset.batches(4, epochs=2), depth=3) as second:
        second.load_state_dict(state)
        assert [*taken, *(batch.tolist() for batch in second)] == expected
