"""Only messages of known shape pass between hosts."""

from __future__ import annotations

import json
import selectors
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sagemaker_byoc.training.supervisor.ranks.connection import (
    LIMIT,
    SHAPES,
    NotAMessageError,
    Wire,
    decode,
    encode,
)

NAMES = ["kind", "run", "host", "processes", "rank", "code", "text"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def test_a_message_survives():
    """What is sent is what arrives."""
    fields = {"rank": None, "code": 1, "text": "ü\n", "secondary": False, "age": 0.5}
    assert decode(encode("failed", **fields)) == {"kind": "failed", **fields}
    assert len(encode("failed", **{**fields, "text": "\x01" * 1024})) < LIMIT


@pytest.mark.slow
@given(st.binary(max_size=60))
def test_noise_is_refused(data):
    """Bytes that are not a message raise one error and nothing else."""
    with pytest.raises(NotAMessageError):
        decode(data)


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(SHAPES)), st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_other_shapes_are_refused(kind, fields):
    """A known kind with other fields, or with other types, is not a message."""
    message = {**fields, "kind": kind}
    try:
        decoded = decode(json.dumps(message).encode())
    except NotAMessageError:
        return
    assert decoded.keys() == {"kind", *SHAPES[kind]}
    for name, types in SHAPES[kind].items():
        assert type(decoded[name]) in types


def test_huge_numbers_are_refused():
    """They would overflow where the time of a failure is computed."""
    fields = {"rank": 0, "code": 1, "text": "", "secondary": False}
    with pytest.raises(NotAMessageError):
        decode(encode("failed", **fields, age=10**400))


@pytest.mark.parametrize("values", [["1"], [True], [1.5], [None]])
def test_counts_are_whole_numbers(values):
    """Numbers of processes are nothing else."""
    with pytest.raises(NotAMessageError):
        decode(encode("start", processes=values))


@pytest.fixture
def wire():
    ours, theirs = socket.socketpair()
    selector = selectors.DefaultSelector()
    got, lost = [], []
    made = Wire(
        _Tcp(ours),
        selector,
        on_message=lambda _, message: got.append(message["kind"]),
        on_lost=lambda _, reason: lost.append(reason),
    )

    def serve():
        for key, _ in selector.select(0.2):
            key.data()

    yield made, theirs, serve, got, lost
    made.close()
    theirs.close()
    selector.close()


class _Tcp:
    """A socket pair that takes TCP's options."""

    def __init__(self, sock):
        self._sock = sock

    def setsockopt(self, *_):
        pass

    def __getattr__(self, name):
        return getattr(self._sock, name)


def test_messages_in_pieces(wire):
    """A message may come in any pieces."""
    _, theirs, serve, got, lost = wire
    data = encode("alive") + encode("bye")
    for start in range(0, len(data), 5):
        theirs.sendall(data[start : start + 5])
        serve()
    assert got == ["alive", "bye"]
    assert not lost


@pytest.mark.parametrize("data", [b"x" * (LIMIT + 1), b'{"kind": "alive", "more": 1}\n', b"[]\n"])
def test_nonsense_ends_the_connection(wire, data):
    """Anything that is not a message ends the connection."""
    made, theirs, serve, got, lost = wire
    theirs.sendall(data)
    for _ in range(4):
        serve() if made.is_open else None
    assert not made.is_open
    assert not got
    assert len(lost) == 1


def test_unread_messages_do_not_block(wire):
    """A peer that reads nothing costs a bounded amount of memory and no time."""
    made, _, _, _, lost = wire
    for _ in range(3000):
        made.send("verdict", host="a", rank=None, code=1, text="x" * 1000)
    assert made.is_open
    assert not lost
