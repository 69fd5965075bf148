"""/ping over the error budget, a drain that must be cut, and the loop that uvloop replaces."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.unit.serving.harness import ONE_WORKER, Server, children, wait_until
from tests.unit.serving.http.websocket import Client

from sagemaker_byoc.contract.lifecycle import SERVE_DRAIN, SERVE_STOP_GRACE
from sagemaker_byoc.serving.front.http.front import BUDGET_LEAST
from sagemaker_byoc.serving.settings import Settings

pytestmark = pytest.mark.slow  # real processes


def test_budget(tmp_path):
    """When every request fails, /ping reports it; a good answer makes it ready again."""
    with Server(tmp_path, "obedient") as server:
        server.wait_ready()
        for _ in range(BUDGET_LEAST):
            assert server.command("fail always").status == 500
        reply = wait_until(lambda: (found := server.ping()).status == 503 and found)
        assert json.loads(reply.body)["status"] == "failing"
        assert (
            f"{BUDGET_LEAST} of {BUDGET_LEAST} requests failed" in json.loads(reply.body)["reason"]
        )
        assert "byoc: ping: failing" in server.log
        assert "byoc_ready 0" in server.request("GET", "/metrics").text
        assert server.command("print well").status == 200
        wait_until(lambda: server.ping().status == 200)


def kill_worker(server):
    """End the only worker; the next one does not load until the test lets it."""
    (server.root / "load").unlink()
    front, _ = server.front()
    (worker,) = (pid for pid in children(server.process.pid) if pid != front)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: "byoc_workers_ready 0" in server.request("GET", "/metrics").text)


def test_short_restart(tmp_path):
    """While the only worker is replaced, /ping says 200 and requests wait for the new one."""
    server = Server(tmp_path, "slow_load", **ONE_WORKER)
    with server, ThreadPoolExecutor() as pool:
        server.let_go("load")
        server.wait_ready()
        kill_worker(server)
        assert server.ping().status == 200
        assert "ping: restarting: a model worker ended" in server.log
        asked = pool.submit(server.invoke, b"1")
        wait_until(lambda: "byoc_queue_depth 1" in server.request("GET", "/metrics").text)
        server.let_go("load")
        assert asked.result().status == 200


def test_long_restart(tmp_path):
    """When it takes longer than a request may wait, /ping says why nothing can be answered."""
    environ = {"SAGEMAKER_MODEL_SERVER_TIMEOUT": "1", **ONE_WORKER}
    with Server(tmp_path, "slow_load", **environ) as server:
        server.let_go("load")
        server.wait_ready()
        kill_worker(server)
        reply = wait_until(lambda: (found := server.ping()).status == 503 and found)
        # The latter once the new process has connected, which may be sooner than the deadline.
        assert json.loads(reply.body)["status"] in {"restarting", "loading"}
        server.let_go("load")
        wait_until(lambda: server.ping().status == 200)


SOON = """
import sys
from dataclasses import replace
from sagemaker_byoc.serving import serve

class Settings(serve.Settings):
    @classmethod
    def from_environ(cls, environ):
        return replace(super().from_environ(environ), drain=2)

serve.Settings = Settings
sys.argv = ["serve", "serve"]
sys.exit(serve.main())
"""
"""The command, with a drain of two seconds."""


def test_drain_is_cut(tmp_path):
    """A request that would run forever does not keep the container beyond its time, which leaves
    the platform some of its own."""
    assert Settings.from_environ({}).drain == SERVE_DRAIN.value < SERVE_STOP_GRACE.value - 1
    server = Server(tmp_path, "obedient")
    server.command_line = [sys.executable, "-I", "-c", SOON]
    with server, ThreadPoolExecutor() as pool:
        server.wait_ready()
        asked = pool.submit(server.command, "wait ever")
        wait_until(lambda: server.running("ever"))
        began = time.monotonic()
        server.send_signal()
        assert server.exit_code() == 0
        took = time.monotonic() - began
        assert 1 < took < 2 + (SERVE_STOP_GRACE.value - SERVE_DRAIN.value) - 1
        with pytest.raises(OSError):  # noqa: PT011 - refused, reset, or cut
            asked.result()


@pytest.fixture
def plain(tmp_path):
    """A server on asyncio's own loop."""
    with Server(tmp_path, "talking", BYOC_EVENT_LOOP="asyncio") as server:
        yield server.wait_ready()


def test_plain_loop(plain):
    """Small, large, chunked, refused, two-way: as with uvloop."""
    octets = "application/octet-stream"
    assert plain.invoke(b"x", octets).text == "x"
    large = b"0123456789abcdef" * 2**18
    assert plain.invoke(large, octets).body == large
    assert plain.invoke(iter([b"a", b"b"]), octets).body == b"ab"  # chunked
    assert plain.invoke(b"x" * (26 * 2**20), octets).status == 413
    assert plain.request("GET", "/nothing").status == 404
    with Client(plain.port) as client:
        assert client.ask("hello") == "HELLO"
        client.leave()
        assert client.closed()[0] == 1000
    assert plain.log.count("Traceback") == 0


def test_plain_loop_drains(plain):
    """And it ends as it should, with a request under way."""
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(plain.invoke, b"wait", "application/octet-stream")
        wait_until((plain.root / "predicting").exists)
        plain.send_signal()
        wait_until(lambda: plain.ping().status == 0)
        plain.let_go("go")
        assert asked.result().status == 200
    assert plain.exit_code() == 0


def test_plain_loop_is_used(plain):
    """The variable does what it says."""
    _, (http_process,) = plain.front()
    with open(f"/proc/{http_process}/maps") as file:
        assert "uvloop" not in file.read()
