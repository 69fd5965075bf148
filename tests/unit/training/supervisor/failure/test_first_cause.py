"""The cause is the earliest failure that is not the echo of another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagemaker_byoc.training.supervisor.failure.first_cause import (
    COLLECT_SECONDS,
    ECHO_SECONDS,
    NEVER,
    Alone,
    FirstCause,
    Order,
    Report,
    State,
    is_echo,
)

REPORTS = st.lists(st.tuples(st.booleans(), st.floats(0, ECHO_SECONDS / 2)), min_size=1, max_size=8)
RUNS = State(is_over=False, quiet=0.0, stalled=None)


def report(time, *, echo=False, rank=0):
    return Report("algo-1", rank, 1, "text", echo, time)


@given(REPORTS)
def test_earliest_cause(found):
    """Whatever order the reports come in, causes win over echoes, the earlier over the later."""
    cause = FirstCause()
    reports = [report(time, echo=echo, rank=rank) for rank, (echo, time) in enumerate(found)]
    for one in reports:
        cause.add(one, 1.0)
    expected = min(reports, key=lambda one: (one.is_secondary, one.time))
    assert cause.verdict(1.0, is_complete=True) == expected


def test_an_echo_waits():
    """Nothing is ended for an echo until its cause has had time to come."""
    cause = FirstCause()
    cause.add(report(0.0, echo=True), 0.0)
    assert not cause.is_time_to_end_others(ECHO_SECONDS - 0.01)
    assert cause.verdict(ECHO_SECONDS - 0.01, is_complete=False) is None
    assert cause.is_time_to_end_others(ECHO_SECONDS)
    assert not cause.is_time_to_end_others(ECHO_SECONDS)
    assert cause.verdict(ECHO_SECONDS + COLLECT_SECONDS, is_complete=False)


def test_a_cause_does_not_wait():
    """For an error of its own the others are ended at once, also after an echo."""
    cause = FirstCause()
    cause.add(report(0.0, echo=True), 0.0)
    cause.add(report(0.1), 0.2)
    assert cause.is_time_to_end_others(0.2)
    assert cause.verdict(0.2, is_complete=False) is None
    assert cause.verdict(0.2 + COLLECT_SECONDS, is_complete=False).time == 0.1


@pytest.mark.parametrize(
    "text",
    [
        "RuntimeError: [pair.cc:553] Connection closed by peer [10.0.0.1]:36741",
        "ConnectionResetError: [Errno 104] Connection reset by peer",
        "BrokenPipeError: [Errno 32] Broken pipe",
        "torch.distributed.DistBackendError: NCCL error: remote process exited",
        "torch.distributed.DistNetworkError: failed to recv, got 0 bytes",
        "torch.distributed.DistStoreError: Socket Timeout",
        "ncclRemoteError: A call failed possibly due to a network error",
        "Watchdog caught collective operation timeout: WorkNCCL(SeqNum=12, OpType=ALLREDUCE)",
    ],
)
def test_echo(text):
    """What the other ranks say when one is gone."""
    assert is_echo(text)


@pytest.mark.parametrize(
    "text",
    [
        "ValueError: loss is not finite",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB",
        "OSError: [Errno 28] No space left on device",
        "FileNotFoundError: [Errno 2] No such file or directory: 'a'",
        "exited with code 3",
        "",
    ],
)
def test_no_echo(text):
    """A failure that a rank causes itself."""
    assert not is_echo(text)


def test_alone_without_failure():
    """One host that succeeds never waits for a judge."""
    alone = Alone("algo-1")
    assert alone.is_settled
    assert alone.due == NEVER


def test_alone_hang():
    """Steps count if they are reported; otherwise output counts."""
    for quiet, stalled, hangs in ((9, None, True), (9, 1, False), (1, 9, True), (1, None, False)):
        alone = Alone("algo-1", hang_seconds=5)
        order = alone.advance(0.0, State(is_over=False, quiet=quiet, stalled=stalled))
        assert (order is Order.ABORT) == hangs
    assert Alone("algo-1").advance(0.0, RUNS) is None
