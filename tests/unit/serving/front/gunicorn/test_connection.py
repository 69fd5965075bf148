"""One connection without a socket: what its timers do."""

from __future__ import annotations

import asyncio
import types

import pytest
from gunicorn.config import Config

from sagemaker_byoc.serving.front.gunicorn import connection


class Transport(asyncio.Transport):
    """Takes notes."""

    def __init__(self):
        super().__init__()
        self.notes = []

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def pause_reading(self):
        self.notes.append("pause")

    def resume_reading(self):
        self.notes.append("resume")

    def can_write_eof(self):
        return False

    def close(self):
        self.notes.append("close")

    def abort(self):
        self.notes.append("abort")

    def is_closing(self):
        return "close" in self.notes


@pytest.fixture
def opened(monkeypatch):
    """Run a scenario with a connection that has just been made; stalls are over at once."""

    def run(scenario):
        config = Config()
        config.set("asgi_disconnect_grace_period", 0)

        async def main():
            worker = types.SimpleNamespace(
                cfg=config,
                log=None,
                asgi=types.SimpleNamespace(handed_over={}),
                loop=asyncio.get_running_loop(),
                connections=set(),
                make_room=lambda: None,
                nr_conns=0,
                alive=True,
            )
            protocol, transport = connection.FrontProtocol(worker), Transport()
            protocol.connection_made(transport)
            await scenario(protocol, transport)
            protocol.connection_lost(None)
            await asyncio.gather(protocol._task, return_exceptions=True)

        asyncio.run(main())

    monkeypatch.setattr(connection, "STALL", 0.0)
    return run


async def noted(transport, note):
    async with asyncio.timeout(10):
        while note not in transport.notes:
            await asyncio.sleep(0)


def test_stalled_client(opened):
    """One that takes nothing of what fills its buffer is cut off, and not read from until then."""

    async def scenario(protocol, transport):
        protocol.pause_writing()
        protocol._resume_reading()  # gunicorn's, after each request
        assert transport.notes == ["pause"]
        await noted(transport, "abort")

    opened(scenario)


def test_client_that_reads_again(opened):
    """It keeps its connection."""

    async def scenario(protocol, transport):
        protocol.pause_writing()
        protocol.resume_writing()
        await asyncio.sleep(0.01)
        assert transport.notes == ["pause", "resume"]

    opened(scenario)


def test_close_that_is_not_taken(opened):
    """A last reply that nobody reads does not keep its connection forever."""

    async def scenario(protocol, transport):
        protocol._close_now()
        assert transport.notes == ["close"]
        await noted(transport, "abort")

    opened(scenario)


def test_chunks_of_a_byte(opened, monkeypatch):
    """They are joined, and parsed a few at a time: the parser in C moves the rest for each."""
    sizes = []
    feed = connection.FrontProtocol._feed_callback_parser

    def noting(protocol, data):
        sizes.append(len(data))
        return feed(protocol, data)

    monkeypatch.setattr(connection.FrontProtocol, "_feed_callback_parser", noting)

    async def scenario(protocol, _transport):
        head = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        protocol.data_received(head + b"1\r\na\r\n")
        protocol.data_received(b"1\r\nb\r\n" * 20_000)
        protocol.data_received(b"2000\r\n" + b"c" * 8192 + b"\r\n0\r\n\r\n")
        received = protocol._body_receiver
        assert b"".join(received._chunks) == b"a" + b"b" * 20_000 + b"c" * 8192
        assert received.buffered == 1 + 20_000 + 8192
        assert len(received._chunks) < 10
        assert max(sizes) <= connection.SLICE

    opened(scenario)
