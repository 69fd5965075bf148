"""Frames between front and worker."""

from __future__ import annotations

import os
import socket
import struct

import pytest

from sagemaker_byoc.serving import link
from sagemaker_byoc.serving.link import Body, ClosedError, Frame, Kind, Link, LinkError


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


@pytest.mark.parametrize("size", [0, 1, link.INLINE, link.INLINE + 1, 5 * 2**20])
def test_round_trip(pair, size):
    """A frame arrives as it was sent, whatever its size."""
    data = os.urandom(size)
    pair[0].send(Frame(Kind.REPLY, 2**40, {"a": "ü"}, Body.of(data)))
    frame = pair[1].receive()
    assert (frame.kind, frame.id, frame.meta) == (Kind.REPLY, 2**40, {"a": "ü"})
    assert bytes(frame.body.view()[:]) == data


def test_large_body_is_shared():
    """What arrives is the same memory, which nobody can change under a reader any more."""
    body = Body.of(bytes(link.INLINE + 1))
    with pytest.raises(PermissionError):
        os.write(body.descriptor, b"x")
    with pytest.raises(PermissionError):
        os.truncate(body.descriptor, 0)


def test_full_frame_fits(pair):
    """The largest metadata and the largest inline body pass the default socket buffer."""
    meta = {"a": "x" * (link.META - 8)}
    pair[0].send(Frame(Kind.REQUEST, 1, meta, Body(bytes(link.INLINE))))
    assert pair[1].receive().meta == meta


def test_metadata_is_bounded(pair):
    """A frame that is too large is not sent, and the link stays usable."""
    with pytest.raises(LinkError, match="exceeds"):
        pair[0].send(Frame(Kind.REPLY, 1, {"a": "x" * link.META}))
    pair[0].send(Frame(Kind.READY))
    assert pair[1].receive().kind is Kind.READY


def test_peer_goes(pair):
    """A closed peer is noticed by receiver and sender."""
    pair[0].close()
    with pytest.raises(ClosedError):
        pair[1].receive()
    with pytest.raises(ClosedError):
        pair[1].send(Frame(Kind.READY))


HEADER = struct.Struct("!4sBBHIQQ")


@pytest.mark.parametrize(
    "packet",
    [
        b"x",
        HEADER.pack(b"NOPE", 1, 0, 0, 2, 0, 0) + b"{}",
        HEADER.pack(link.MAGIC, 99, 0, 0, 2, 0, 0) + b"{}",
        HEADER.pack(link.MAGIC, 1, 0, 0, 3, 0, 0) + b"{}",
        HEADER.pack(link.MAGIC, 1, 0, 0, 2, 0, 9) + b"{}",
        HEADER.pack(link.MAGIC, 1, 1, 0, 2, 0, 9) + b"{}",
        HEADER.pack(link.MAGIC, 1, 0, 0, 2, 0, 0) + b"[]",
        HEADER.pack(link.MAGIC, 1, 0, 0, 2, 0, 0) + b"{x",
        HEADER.pack(link.MAGIC, 1, 1, 0, 2, 0, 2**60) + b"{}",
    ],
)
def test_damaged(raw, packet):
    """What is no frame is a LinkError and nothing else."""
    sender, receiver = raw
    sender.send(packet)
    with pytest.raises(LinkError):
        receiver.receive()


def test_file_shorter_than_announced(raw):
    """A reader would be killed by touching what is not there."""
    sender, receiver = raw
    descriptor = os.memfd_create("x")
    packet = HEADER.pack(link.MAGIC, 1, 1, 0, 2, 0, 9) + b"{}"
    socket.send_fds(sender, [packet], [descriptor])
    os.close(descriptor)
    with pytest.raises(LinkError, match="shorter"):
        receiver.receive()
