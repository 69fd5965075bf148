"""Clients that are slow, many or gone, and the limits of the process beside them."""

from __future__ import annotations

import contextlib
import re
import resource
import select
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.unit.serving.harness import ONE_WORKER, Server, wait_until
from tests.unit.serving.http.wire_cases import SMALL, Wire, get, post

pytestmark = pytest.mark.slow  # real processes

QUEUE = 3
HALF = post(bytes(1000))[:-500]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    environ = {"BYOC_QUEUE": str(QUEUE), **ONE_WORKER}
    with Server(tmp_path_factory.mktemp("obedient"), "obedient", **environ) as running:
        yield running.wait_ready()


@pytest.fixture
def address(server):
    return "127.0.0.1", server.port


def gauge(server, name):
    text = server.request("GET", "/metrics").text
    return int(float(re.search(rf"^byoc_{name} (\S+)$", text, re.MULTILINE)[1]))


def command(text, **options):
    return post(text, **options).replace(b"text/plain", b"application/x-command")


def test_slow_bodies_hold_no_place(server, address):
    """Many more than the queue has places arrive slowly, and whole ones are answered at once."""
    slow = [Wire(address) for _ in range(10 * QUEUE)]
    for wire in slow:
        wire.send(HALF)
    wait_until(lambda: gauge(server, "bodies_arriving") == len(slow))
    with ThreadPoolExecutor(QUEUE) as pool:
        replies = list(pool.map(lambda _: server.command("print whole").status, range(QUEUE * 3)))
    assert replies == [200] * (QUEUE * 3)
    assert gauge(server, "bodies_arriving") == len(slow)
    for wire in slow:
        wire.__exit__()
    wait_until(lambda: gauge(server, "requests_in_flight") == 0)
    assert gauge(server, "bytes_in_flight") == 0


def test_full_queue_at_the_end_of_a_body(server, address):
    """A body that becomes whole when no place is left gets 503 and when to come again."""
    with Wire(address) as slow, ThreadPoolExecutor() as pool:
        data = command(b"print x" + bytes(100_000))
        slow.send(data[:-1])
        wait_until(lambda: gauge(server, "bodies_arriving") == 1)
        waiting = [pool.submit(server.command, "wait room") for _ in range(1 + QUEUE)]
        wait_until(lambda: gauge(server, "requests_in_flight") == 2 + QUEUE)
        slow.send(data[-1:])
        status, headers, _ = slow.reply()
        assert (status, headers["retry-after"]) == (503, "1")
        server.let_go("room")
        assert {entry.result().status for entry in waiting} == {200}


def test_one_sided_and_gone(server, address):
    """A client that waits with its sending side closed is answered; one that has gone is dropped
    before the model sees its request."""
    with ThreadPoolExecutor() as pool:
        running = pool.submit(server.command, "wait turn")
        wait_until(lambda: server.running("turn"))
        gone, one_sided = Wire(address), Wire(address)
        gone.send(command(b"wait never"))
        one_sided.send(command(b"print me"))
        wait_until(lambda: gauge(server, "queue_depth") == 2)
        gone.__exit__()
        one_sided.socket.shutdown(socket.SHUT_WR)
        wait_until(lambda: gauge(server, "queue_depth") == 1)
        server.let_go("turn")
        assert running.result().status == 200
        reply = one_sided.reply()
        while reply[0] == 100:
            reply = one_sided.reply()
        assert reply[0] == 200
        assert one_sided.reply() is None
        one_sided.__exit__()
    assert not server.running("never")


def test_known_head_in_flight(server, address):
    """What follows a request whose head was known is read as after any other: the rest of the next
    request, another way to send it, the end of the client's side."""
    names = [f"known{number}" for number in range(4)]
    with Wire(address) as wire:
        for name in names:
            data = command(f"wait {name}".encode())  # the same head each time
            wire.send(data)
            wait_until(lambda name=name: server.running(name))
            following = command(b"print the next, longer") + get()
            wire.send(following[:-10])
            assert server.ping().status == 200
            server.let_go(name)
            assert name in wire.reply()[2].decode()
            assert b"print the next" in wire.reply()[2]
            wire.send(following[-10:])
            assert wire.reply()[::2] == (200, b"")
            wire.send(command(b"print this"))
            assert wire.reply()[0] == 200
        wire.send(command(b"wait half"))
        wait_until(lambda: server.running("half"))
        wire.socket.shutdown(socket.SHUT_WR)
        server.let_go("half")
        reply = wire.reply()
        while reply[0] == 100:
            reply = wire.reply()
        assert b"wait half" in reply[2]
        assert wire.reply() is None


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    environ = {"BYOC_QUEUE": str(QUEUE), "BYOC_QUEUE_MB": "32"}
    with Server(tmp_path_factory.mktemp("echo"), "echo", **environ) as running:
        yield running.wait_ready()


def test_slow_readers_hold_no_place(echo):
    """More clients than the queue has places leave their replies unread, whole or in part; others
    are answered, and those that take longest are cut off when the memory is needed."""
    body = bytes(8 * 2**20)
    wires = []
    for _ in range(3 * QUEUE):
        wire = Wire(("127.0.0.1", echo.port))
        wire.send(post(body))
        assert wire.socket.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
        wires.append(wire)
    assert echo.invoke(SMALL, "text/plain").body == SMALL
    assert gauge(echo, "requests_in_flight") == 0
    assert gauge(echo, "bytes_in_flight") <= 32 * 2**20
    status, _, received = wires[-1].reply(begun=b"HTTP/1.1 200")
    assert (status, len(received)) == (200, len(body))
    assert len(wires[0].file.read()) < len(body)
    for wire in wires:
        wire.__exit__()
    wait_until(lambda: gauge(echo, "bytes_in_flight") == 0)
    assert "Traceback" not in echo.log


def test_unread_replies_do_not_pile_up(echo):
    """A client that sends requests and reads nothing is soon not read from any more."""
    data, sent = get() * 10_000, 0
    with Wire(("127.0.0.1", echo.port)) as wire, contextlib.suppress(ConnectionError):
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        while select.select([], [wire.socket], [], 2)[1]:
            sent += wire.socket.send(data[sent % len(get()) :], socket.MSG_DONTWAIT)
            assert sent < 40 * 2**20  # several times what the kernel keeps on both sides
    assert echo.invoke(SMALL, "text/plain").body == SMALL


@pytest.mark.parametrize("phase", [b"", b"PO", HALF[:60], HALF])
def test_gone_in_each_phase(server, address, phase):
    """Nothing stays of a client that leaves while it sends."""
    with Wire(address) as wire:
        wire.send(phase)
    wait_until(lambda: gauge(server, "requests_in_flight") == 0)
    assert server.command("print x").status == 200


def with_files(server, soft, hard):
    """The server's command, with these limits on open files."""
    server.command_line = ["prlimit", f"--nofile={soft}:{hard}", *server.command_line]
    return server


def test_too_few_files(tmp_path):
    """A limit with which nothing can be served ends the start with its name, value and hint."""
    with with_files(Server(tmp_path, "echo"), 20, 20) as server:
        assert server.exit_code() == 2
        assert "ulimit -n: is 20, fewer open files" in server.log
        assert "--ulimit nofile=" in server.log
        assert "Traceback" not in server.log


def test_soft_limit_is_raised(tmp_path):
    """What the hard limit allows is used."""
    with with_files(Server(tmp_path, "echo"), 20, 4096) as server:
        server.wait_ready()
        _, (front,) = server.front()
        assert resource.prlimit(front, resource.RLIMIT_NOFILE) == (4096, 4096)


def test_more_connections_than_files(tmp_path):
    """Where files are few, the connection that was idle for longest makes room for a new one."""
    with with_files(Server(tmp_path, "echo"), 80, 80) as server:
        server.wait_ready()
        assert "ulimit -n is 80: at most 24 connections at the same time" in server.log
        address = "127.0.0.1", server.port
        wires = []
        for _ in range(100):
            wires.append(Wire(address))
            wires[-1].send(post())
            assert wires[-1].reply()[::2] == (200, SMALL)
        assert wires[0].reply() is None
        wires[-1].send(get())
        assert wires[-1].reply()[0] == 200
        for wire in wires:
            wire.__exit__()
        assert "Traceback" not in server.log


@pytest.mark.parametrize("port", ["99999", "abc", "-1", "0", "80.0"])
def test_port(tmp_path, port):
    """A port that is none ends the start with its name, value and hint."""
    with Server(tmp_path, "echo", SAGEMAKER_BIND_TO_PORT=port) as server:
        assert server.exit_code() == 2
        assert f"SAGEMAKER_BIND_TO_PORT: is '{port}'. Give a whole number from 1" in server.log
