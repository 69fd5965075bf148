"""Adapters over HTTP, in two real workers."""

from __future__ import annotations

import json
import os
import signal

import pytest
from tests.unit.serving.harness import Server, is_alive, wait_until

from sagemaker_byoc.contract import http

pytestmark = pytest.mark.slow  # real processes


class Adapted(Server):
    def __init__(self, root, **environ):
        super().__init__(root, "adapters", SAGEMAKER_MODEL_SERVER_WORKERS="2", **environ)

    def put(self, name, word):
        folder = self.root / "adapters" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "word").write_text(word)
        return str(folder)

    def add(self, name, src):
        return self.request("POST", "/adapters", json.dumps({"name": name, "src": src}))

    def ask(self, adapter=""):
        extra = {http.ADAPTER_ID.value: adapter} if adapter else {}
        return self.invoke(b"x", "text/plain", **extra)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    with Adapted(tmp_path_factory.mktemp("adapted")) as found:
        yield found


@pytest.fixture
def server(adapted):
    """The shared server; each test begins with both workers and without adapters."""
    yield adapted.wait_both()
    adapted.wait_both()
    for entry in json.loads(adapted.request("GET", "/adapters").body)["adapters"]:
        assert adapted.request("DELETE", f"/adapters/{entry['name']}").status == 200


def test_life(server):
    """Registered, named by a request, replaced, unregistered."""
    reply = server.add("a", server.put("a", "first"))
    assert (reply.status, reply.text) == (200, "Adapter a registered")
    assert " first ['a']" in server.ask("a").text
    assert " none ['a']" in server.ask().text
    listed = json.loads(server.request("GET", "/adapters").body)["adapters"]
    assert listed == [{"name": "a", "src": str(server.root / "adapters/a")}]
    assert json.loads(server.request("GET", "/adapters/a").body) == listed[0]
    body = json.dumps({"src": server.put("b", "second")})
    assert server.request("POST", "/adapters/a/update", body).text == "Adapter a updated"
    assert " second ['a']" in server.ask("a").text
    reply = server.request("DELETE", "/adapters/a")
    assert (reply.status, reply.text) == (200, "Adapter a unregistered")
    assert server.ask("a").status == 404
    assert " none []" in server.ask().text
    assert server.request("DELETE", "/adapters/a").status == 404
    assert server.request("GET", "/adapters/a").status == 404


def test_query(server):
    """As DJL's clients send it."""
    folder = server.put("a", "word")
    assert server.request("POST", f"/adapters?name=a&src={folder}").status == 200
    assert server.ask("a").status == 200


def test_refused(server):
    """Twice the same, no path, a path outside, a handler that raises."""
    folder = server.put("a", "word")
    server.add("a", folder)
    assert server.add("a", folder).status == 400
    for src in ("/etc", f"{server.root}/../..", "s3://bucket/key", "adapters/a", None, "/\0"):
        assert server.add("b", src).status == 400, src
    assert server.add("b", f"{server.root}/nothing").status == 404
    assert server.add("a/b", folder).status == 400
    assert server.request("POST", "/adapters", b"{").status == 400
    reply = server.add("bad", folder)
    assert (reply.status, "rank 7 does not fit" in reply.text) == (424, True)
    assert server.add("large", folder).status == 507
    listed = json.loads(server.request("GET", "/adapters").body)["adapters"]
    assert [entry["name"] for entry in listed] == ["a"]
    assert " word ['a']" in server.ask("a").text
    assert server.request("PUT", "/adapters").headers["Allow"] == "GET, POST"
    assert server.request("GET", "/adapters/a/b").status == 404


def test_bound(tmp_path):
    """No more than may be in memory."""
    environ = {"SAGEMAKER_MAX_NUMBER_OF_ADAPTERS_IN_MEMORY": "1"}
    with Adapted(tmp_path, **environ) as server:
        server.wait_both()
        assert server.add("a", server.put("a", "word")).status == 200
        assert server.add("b", server.put("b", "word")).status == 507
        server.request("DELETE", "/adapters/a")
        assert server.add("b", server.put("b", "word")).status == 200


def test_worker_restarts(server):
    """A new worker has the adapters before it answers anything."""
    server.add("a", server.put("a", "word"))
    first = int(server.ask().text.split()[0])
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not is_alive(first))
    second = int(wait_until(lambda: (r := server.ask()).status == 200 and r).text.split()[0])
    server.wait_both()
    os.kill(second, signal.SIGKILL)  # so that the new one has to answer
    wait_until(lambda: not is_alive(second))
    reply = server.ask("a")
    assert (reply.status, " word ['a']" in reply.text) == (200, True)
    assert int(reply.text.split()[0]) not in {first, second}


def test_front_restarts(server):
    """A new HTTP process learns from the workers what is there."""
    server.add("a", server.put("a", "word"))
    _, (http_process,) = server.front()
    os.kill(http_process, signal.SIGKILL)
    wait_until(lambda: not is_alive(http_process))
    server.wait_both()
    assert " word ['a']" in server.ask("a").text


def test_no_handler(tmp_path):
    """Without load_adapter_fn there are no such routes, and the header is nobody's business."""
    with Server(tmp_path, "echo") as server:
        server.wait_ready()
        assert server.request("GET", "/adapters").status == 404
        assert server.invoke(b"x", "text/plain", **{http.ADAPTER_ID.value: "a"}).status == 200
