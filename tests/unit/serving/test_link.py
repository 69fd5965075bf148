"""Frames between front and worker."""

from __future__ import annotations

import os
import pathlib
import socket
import struct

import orjson
import pytest

from sagemaker_byoc.serving import link
from sagemaker_byoc.serving.bodies import INLINE, Body
from sagemaker_byoc.serving.link import ClosedError, Frame, Kind, Link, LinkError


@pytest.fixture
def pair():
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    links = [Link(end) for end in ends]
    yield links
    for entry in links:
        entry.close()


@pytest.fixture
def raw():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    receiver = Link(theirs)
    yield ours, receiver
    ours.close()
    receiver.close()


@pytest.mark.parametrize("size", [0, 1, INLINE, INLINE + 1, 5 * 2**20])
def test_round_trip(pair, size):
    """A frame arrives as it was sent, whatever its size."""
    data = os.urandom(size)
    pair[0].send(Frame(Kind.REPLY, 2**40, {"a": "ü"}, Body.of(data)))
    (frame,) = pair[1].receive()
    assert (frame.kind, frame.id, frame.meta) == (Kind.REPLY, 2**40, {"a": "ü"})
    assert bytes(frame.body.view()[:]) == data


def test_large_body_is_shared():
    """What arrives is the same memory, which nobody can change under a reader any more."""
    body = Body.of(bytes(INLINE + 1))
    with pytest.raises(PermissionError):
        os.write(body.descriptor, b"x")
    with pytest.raises(PermissionError):
        os.truncate(body.descriptor, 0)


def test_full_frame_fits(pair):
    """The largest metadata and the largest inline body pass the default socket buffer."""
    meta = {"a": "x" * (link.META - 40)}
    pair[0].send(Frame(Kind.REQUEST, 1, meta, Body(bytes(INLINE))))
    assert pair[1].receive()[0].meta == meta


@pytest.mark.parametrize("sizes", [[1, 2, 3], [INLINE] * 5, [0, INLINE + 1, 7, 2**20, INLINE]])
def test_many_at_once(pair, sizes):
    """A batch is one packet, whether its bodies fit into it, share a file or have their own."""
    bodies = [os.urandom(size) for size in sizes]
    frames = [Frame(Kind.REQUEST, i, {"i": i}, Body.of(data)) for i, data in enumerate(bodies)]
    pair[0].send(*frames)
    received = pair[1].receive()
    assert [frame.meta["i"] for frame in received] == list(range(len(sizes)))
    assert [bytes(frame.body.view()[:]) for frame in received] == bodies


def test_too_many_at_once(pair):
    """The kernel would drop descriptors; so it is refused before."""
    with pytest.raises(LinkError, match="too much"):
        pair[0].send(*[Frame(Kind.REQUEST, 1)] * (link.FRAMES + 1))


def test_receive_without_waiting(pair):
    """An event loop asks only for what is there."""
    pair[1]._socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        pair[1].receive()


def test_metadata_is_bounded(pair):
    """A frame that is too large is not sent, and the link stays usable."""
    with pytest.raises(LinkError, match="too much"):
        pair[0].send(Frame(Kind.REPLY, 1, {"a": "x" * link.META}))
    pair[0].send(Frame(Kind.READY))
    assert pair[1].receive()[0].kind is Kind.READY


def test_peer_goes(pair):
    """A closed peer is noticed by receiver and sender."""
    pair[0].close()
    with pytest.raises(ClosedError):
        pair[1].receive()
    with pytest.raises(ClosedError):
        pair[1].send(Frame(Kind.READY))


FILES = pathlib.Path("/proc/self/fd")
HEADER = struct.Struct("!4sBI")


def packet(entries, rest=b"", *, bundled=0, magic=link.MAGIC):
    index = orjson.dumps(entries)
    return HEADER.pack(magic, bundled, len(index)) + index + rest


GOOD = [2, 0, 0, False, {}]


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        packet([GOOD], magic=b"NOPE"),
        packet([GOOD], b"left over"),
        packet([GOOD], bundled=1),
        packet([GOOD], bundled=7),
        packet([[99, 0, 0, False, {}]]),
        packet([[2, 0, 9, False, {}]], b"short"),
        packet([[2, 0, 9, True, {}]]),
        packet([[2, 0, -1, False, {}]]),
        packet([[2, 0, 2**60, False, {}]]),
        packet([[2, 0, "9", False, {}]]),
        packet([[2, "a", 0, False, {}]]),
        packet([[2, 0, 0, False, []]]),
        packet([[2]]),
        packet([7]),
        packet(7),
        HEADER.pack(link.MAGIC, 0, 2) + b"{x",
        HEADER.pack(link.MAGIC, 0, 2**31) + b"{}",
    ],
)
def test_damaged(raw, data):
    """What is not a frame is a LinkError and nothing else."""
    sender, receiver = raw
    sender.send(data)
    with pytest.raises(LinkError):
        receiver.receive()


def test_file_shorter_than_announced(raw):
    """A reader would be killed by touching what is not there."""
    sender, receiver = raw
    descriptor = os.memfd_create("x")
    socket.send_fds(sender, [packet([[2, 0, 9, True, {}]])], [descriptor])
    os.close(descriptor)
    with pytest.raises(LinkError, match="shorter"):
        receiver.receive()


def test_file_that_nobody_announced(raw):
    """A descriptor that no entry speaks of is closed and breaks the protocol."""
    sender, receiver = raw
    descriptor = os.memfd_create("x")
    before = len([*FILES.iterdir()])
    socket.send_fds(sender, [packet([GOOD])], [descriptor])
    with pytest.raises(LinkError, match="fit"):
        receiver.receive()
    assert len([*FILES.iterdir()]) == before
    os.close(descriptor)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        HEADER.pack(link.MAGIC, 0, 1) + b"{",
        HEADER.pack(link.MAGIC, 0, 2**31) + b"[",
        *map(packet, (7, None, {"a": 1}, [4], [[4]], [[4, "x"]], [[4, None]], [[4, [1]]])),
    ],
)
def test_ids_of_a_damaged_packet(raw, data):
    """A worker can put anything where the front takes its requests back from."""
    ours, receiver = raw
    ours.send(data)
    assert receiver.take_ids() == []


def test_ids_of_requests(raw):
    ours, receiver = raw
    ours.send(packet([[4, 7, 0, False, {}], [4, 9, 0, False, {}]]))
    assert receiver.take_ids() == [7, 9]
    with pytest.raises(BlockingIOError):
        receiver.take_ids()
