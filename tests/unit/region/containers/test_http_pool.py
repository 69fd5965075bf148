"""The client of a container's port, against servers that do what servers should not."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
import uvloop

from sagemaker_byoc.region.containers.http_pool import HEAD_LIMIT, Pool
from sagemaker_byoc.region.containers.http_reply import (
    TOGETHER,
    BodyError,
    BrokenError,
    BusyError,
    MalformedError,
    OverdueError,
    OversizeError,
    Reply,
    UnreachableError,
)

HEAD = b"GET /ping HTTP/1.1\r\nHost: model\r\nContent-Length: 0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LIMIT = 6 * 2**20
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
BOUND = 10.0
"""Seconds after which a test has failed."""


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """Runs a coroutine on each of the event loops that a region may have."""

    def run_it(main):
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(main)

    return run_it


class Server:
    """Hands each connection to `script(reader, writer, number)`; numbers count from 0."""

    def __init__(self, script):
        self.script = script
        self.connections = 0

    async def on_connection(self, reader, writer):
        number = self.connections
        self.connections += 1
        try:
            await self.script(reader, writer, number)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(script, **more):
    """The server and a pool of connections to it."""
    server = Server(script)
    listener = await asyncio.start_server(server.on_connection, "127.0.0.1", 0)
    pool = Pool(listener.sockets[0].getsockname()[1], **more)
    try:
        async with asyncio.timeout(BOUND):
            yield server, pool
    finally:
        pool.close()
        listener.close()
        await listener.wait_closed()


def answers(*pieces, end=False):
    """A script that answers every request with `pieces`, one write each."""

    async def script(reader, writer, number):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if end:
                return

    return script


async def ask(pool, *, limit=LIMIT, timeout=5.0, **more):
    reply = await pool.request(HEAD, timeout=timeout, **more)
    return reply.status, await reply.read(limit)


def test_one_connection_carries_many_requests(run):
    """Kept alive, and nothing of one answer is left for the next."""

    async def main():
        async with serving(answers(OK)) as (server, pool):
            for _ in range(20):
                assert await ask(pool) == (200, b"ok")
            assert server.connections == 1

    run(main())


def test_requests_at_once_have_a_connection_each(run):
    """None waits for another's answer."""

    async def main():
        barrier = asyncio.Barrier(5)

        async def script(reader, writer, number):
            await reader.readuntil(b"\r\n\r\n")
            await barrier.wait()
            writer.write(OK)
            await reader.read()

        async with serving(script) as (server, pool):
            found = await asyncio.gather(*(ask(pool) for _ in range(5)))
            assert found == [(200, b"ok")] * 5
            assert server.connections == 5

    run(main())


def test_limit_of_connections(run):
    """The one too many is refused at once, and does not wait."""

    async def main():
        release = asyncio.Event()

        async def script(reader, writer, number):
            await release.wait()
            writer.write(OK)
            await reader.read()

        async with serving(script, limit=1) as (_, pool):
            first = asyncio.create_task(ask(pool))
            while not len(pool):
                await asyncio.sleep(0)
            with pytest.raises(BusyError):
                await ask(pool)
            release.set()
            assert await first == (200, b"ok")

    run(main())


@pytest.mark.parametrize("size", [1, 100_000])
def test_chunked_bodies(run, size):
    """The coding is removed, wherever the network cuts the body."""
    piece = b"%x\r\n%s\r\n" % (size, b"x" * size)
    start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def main():
        async with serving(answers(start, piece, piece, b"0\r\n\r\n")) as (server, pool):
            for _ in range(2):
                assert await ask(pool) == (200, b"x" * size * 2)
            assert server.connections == 1

    run(main())


def test_small_chunks_that_come_together_are_joined(run):
    """Up to 16 KiB, in their order; what comes later and large chunks are passed on as they are."""

    async def main():
        reply = Reply(Flow())
        for data in (b"a", b"b" * 1000, b"c" * TOGETHER, b"d", b"e"):
            reply.extend(data)
        found = []
        async for chunk in reply:
            found.append(chunk)
            if len(found) == 3:
                reply.extend(b"f")
                reply.finish()
        assert found == [b"a" + b"b" * 1000, b"c" * TOGETHER, b"de", b"f"]

    class Flow:
        def resume(self):
            pass

        def pause(self):
            raise AssertionError

    run(main())


def test_body_of_six_megabytes_both_ways(run):
    """Larger than every buffer on the way."""
    size = LIMIT

    async def script(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(size)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        writer.write(body)
        await reader.read()

    async def main():
        async with serving(script) as (_, pool):
            body = bytes(range(256)) * (size // 256)
            reply = await pool.request(HEAD, body, timeout=BOUND)
            assert await reply.read(LIMIT) == body

    run(main())


@pytest.mark.slow
def test_unread_body_holds_the_server_up(run):
    """What the reader has not taken is not piled up here."""

    async def main():
        sent = 0

        async def script(reader, writer, number):
            nonlocal sent
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
            for _ in range(100):
                writer.write(bytes(1_000_000))
                await writer.drain()
                sent += 1

        async with serving(script) as (_, pool):
            reply = await pool.request(HEAD, timeout=BOUND)
            before = -1
            while sent != before:  # until it no longer gets anything away
                before = sent
                await asyncio.sleep(0.1)
            assert sent < 60
            assert len(await reply.read(10**9)) == 100_000_000

    run(main())


def test_body_over_the_limit(run):
    """Given up where the limit is passed."""

    async def main():
        start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        async with serving(answers(start, b"3\r\nabc\r\n" * 10, end=True)) as (_, pool):
            with pytest.raises(OversizeError, match="over 5 bytes"):
                await ask(pool, limit=5)

    run(main())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"",
    ],
)
def test_truncated_answers(run, answer):
    """An end before the end is an error, wherever it comes."""

    async def main():
        async with serving(answers(answer, end=True)) as (_, pool):
            with pytest.raises(BrokenError):
                await ask(pool)
            assert not len(pool)

    run(main())


def test_reset(run):
    """A connection that is reset in the middle of an answer."""

    async def script(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await writer.drain()
        writer.transport.abort()

    async def main():
        async with serving(script) as (_, pool):
            with pytest.raises(BrokenError):
                await ask(pool)

    run(main())


def test_body_that_ends_with_the_connection(run):
    """HTTP/1.0's way: no length, no chunks."""

    async def main():
        script = answers(b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\nall", b" of it", end=True)
        async with serving(script) as (server, pool):
            assert await ask(pool) == (200, b"all of it")
            assert await ask(pool) == (200, b"all of it")
            assert server.connections == 2

    run(main())


@pytest.mark.parametrize(
    "flood",
    [
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(20_000)),
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * (2 * HEAD_LIMIT),
        b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
    ],
)
def test_head_without_an_end(run, flood):
    """Bounded, whatever it is made of."""

    async def main():
        async with serving(answers(flood)) as (_, pool):
            with pytest.raises(MalformedError, match="headers are over"):
                await ask(pool)

    run(main())


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9\r\n", b"\x16\x03\x01\x02\r\n\r\n"])
def test_other_protocols(run, answer):
    """Something else listens on the port."""

    async def main():
        async with serving(answers(answer)) as (_, pool):
            with pytest.raises(MalformedError, match="not HTTP"):
                await ask(pool)

    run(main())


def test_interim_answers_are_passed_over(run):
    """100 Continue, asked for or not."""

    async def main():
        async with serving(answers(b"HTTP/1.1 100 Continue\r\n\r\n", OK)) as (server, pool):
            assert await ask(pool) == (200, b"ok")
            assert await ask(pool) == (200, b"ok")
            assert server.connections == 1

    run(main())


def test_upgrade_is_refused(run):
    """The exchange stays HTTP."""

    async def main():
        upgrade = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nx"
        async with serving(answers(upgrade)) as (_, pool):
            with pytest.raises(MalformedError):
                await ask(pool)

    run(main())


def test_answers_without_a_body(run):
    """204 has none, and the connection goes on; HEAD tells of one that does not come."""

    async def main():
        async with serving(answers(b"HTTP/1.1 204 None\r\n\r\n")) as (server, pool):
            assert await ask(pool) == (204, b"")
            assert await ask(pool) == (204, b"")
            assert server.connections == 1
        async with serving(answers(OK[:-2])) as (_, pool):
            assert await ask(pool, expects_body=False) == (200, b"")

    run(main())


@pytest.mark.slow
@pytest.mark.parametrize("answer", [b"", OK[:-1], b"HTTP/1.1 200"])
def test_time_is_for_the_whole_answer(run, answer):
    """Not only for its first byte."""

    async def main():
        async with serving(answers(answer)) as (_, pool):
            with pytest.raises(OverdueError):
                await ask(pool, timeout=0.1)

    run(main())


def test_kept_connection_that_the_server_closed(run):
    """Noticed while it is idle, or at the next request; either way that request is answered."""

    async def script(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        if number % 2 == 0:
            writer.write(OK)
            await writer.drain()
            await reader.readuntil(b"\r\n\r\n")
            return  # the second request on it gets no byte
        writer.write(OK)
        await reader.read()

    async def main():
        async with serving(script) as (server, pool):
            assert await ask(pool) == (200, b"ok")
            assert await ask(pool) == (200, b"ok")
            assert server.connections == 2

    run(main())


def test_nothing_is_sent_twice_once_an_answer_has_begun(run):
    """The model may have run."""

    async def script(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 2")
        await writer.drain()

    async def main():
        async with serving(script) as (server, pool):
            assert await ask(pool) == (200, b"ok")
            with pytest.raises(BrokenError):
                await ask(pool)
            assert server.connections == 1

    run(main())


def test_second_answer_to_one_request(run):
    """It is not taken for the answer to the next."""

    async def main():
        async with serving(answers(OK + OK.replace(b"ok", b"no"))) as (server, pool):
            assert await ask(pool) == (200, b"ok")
            assert await ask(pool) == (200, b"ok")
            assert server.connections == 2

    run(main())


def test_caller_that_goes_away_frees_the_connection(run):
    """Cancelled while it waits: the container sees the end of the connection."""

    async def main():
        gone = asyncio.Event()

        async def script(reader, writer, number):
            await reader.read()
            gone.set()

        async with serving(script) as (_, pool):
            task = asyncio.create_task(ask(pool))
            while not len(pool):
                await asyncio.sleep(0)
            task.cancel()
            await gone.wait()
            assert not len(pool)

    run(main())


def test_nothing_listens(run):
    """Refused, with the port."""

    async def main():
        async with serving(answers(OK)) as (_, pool):
            port = pool.port
        with pytest.raises(UnreachableError, match=str(port)):
            await ask(Pool(port))

    run(main())


def test_closed_pool(run):
    """Requests under way fail, later ones are refused."""

    async def main():
        async with serving(answers(b"")) as (_, pool):
            task = asyncio.create_task(ask(pool))
            while not len(pool):
                await asyncio.sleep(0)
            pool.close()
            with pytest.raises(BrokenError):
                await task
            with pytest.raises(UnreachableError, match="stopped"):
                await ask(pool)

    run(main())


CHUNKED = b"POST /invocations HTTP/1.1\r\nHost: model\r\nTransfer-Encoding: chunked\r\n\r\n"


async def chunked(reader):
    """The body of a request whose head comes next."""
    await reader.readuntil(b"\r\n\r\n")
    found = b""
    while size := int(await reader.readline(), 16):
        found += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return found


async def parts(count, size=100_000):
    for number in range(count):
        yield b"%d" % (number % 10) * size
        await asyncio.sleep(0)


def test_a_stream_is_one_chunked_body(run):
    """Its connection is kept for the next request, also after an empty chunk."""

    async def main():
        seen = []

        async def script(reader, writer, number):
            while True:
                seen.append(await chunked(reader))
                writer.write(OK)

        async with serving(script) as (server, pool):
            reply = await pool.stream(CHUNKED, parts(20), timeout=BOUND)
            assert await reply.read(LIMIT) == b"ok"
            assert seen == [b"".join([b"%d" % (n % 10) * 100_000 for n in range(20)])]
            assert len(pool) == 1
            assert server.connections == 1

    run(main())


def test_an_answer_while_the_request_is_sent(run):
    """A server may answer each part as it comes."""

    async def main():
        async def script(reader, writer, number):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while size := int(await reader.readline(), 16):
                data = await reader.readexactly(size + 2)
                writer.write(b"%x\r\n" % size + data)
                await writer.drain()
            writer.write(b"0\r\n\r\n")

        async with serving(script) as (_, pool):
            reply = await pool.stream(CHUNKED, parts(30), timeout=BOUND)
            assert len(await reply.read(LIMIT)) == 3_000_000

    run(main())


def test_an_answer_before_the_end_of_the_request(run):
    """The rest is not sent, and the connection is not used again."""

    async def main():
        async def script(reader, writer, number):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Large\r\nContent-Length: 2\r\n\r\nno")
            await reader.read()

        async def endless():
            while True:
                yield b"x"
                await asyncio.sleep(0)

        async with serving(script) as (_, pool):
            reply = await pool.stream(CHUNKED, endless(), timeout=BOUND)
            assert (reply.status, await reply.read(LIMIT)) == (413, b"no")
            while len(pool):
                await asyncio.sleep(0)

    run(main())


def test_a_body_that_fails(run):
    async def main():
        async def script(reader, writer, number):
            await chunked(reader)

        async def broken():
            yield b"x"
            raise ValueError("no more")

        async with serving(script) as (_, pool):
            with pytest.raises(BodyError, match="no more") as caught:
                await pool.stream(CHUNKED, broken(), timeout=BOUND)
            assert isinstance(caught.value.error, ValueError)

    run(main())


def test_a_server_that_does_not_read(run):
    """The body waits for it, and the time is limited."""

    async def main():
        sent = 0

        async def long():
            nonlocal sent
            while True:
                sent += 1
                yield bytes(1 << 20)

        async def script(reader, writer, number):
            await asyncio.sleep(BOUND)

        async with serving(script) as (_, pool):
            with pytest.raises(OverdueError):
                await pool.stream(CHUNKED, long(), timeout=0.5)
            assert sent < 40

    run(main())
