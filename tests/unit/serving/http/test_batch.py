"""Batches, batch transform, metrics and a user's own routes, at the running server."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.unit.serving.harness import JSON, ONE_WORKER, Server, wait_until

pytestmark = pytest.mark.slow  # real processes


@pytest.fixture
def pool():
    with ThreadPoolExecutor(16) as executor:
        yield executor


@pytest.fixture(scope="module")
def batching(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("batching"), "batching", **ONE_WORKER) as running:
        yield running.wait_ready()


@pytest.fixture
def server(batching):
    """The shared server; each test begins without the model's signs."""
    for sign in ("running", "hold", "sizes"):
        (batching.root / sign).unlink(missing_ok=True)
    return batching


def ask(server, *rows):
    return server.invoke(json.dumps(rows).encode())


def gather(server, pool, *requests):
    """The replies of requests that queued behind one that runs."""
    first = pool.submit(ask, server, [77, 77])
    wait_until((server.root / "running").exists)
    waiting = []
    for rows in requests:
        waiting.append(pool.submit(ask, server, *rows))
        wait_until(lambda: gauge(server, "queue_depth") == len(waiting))
    server.let_go("hold")
    assert first.result().status == 200
    return [entry.result() for entry in waiting]


def gauge(server, name):
    for line in server.request("GET", "/metrics").text.splitlines():
        if line.startswith(f"byoc_{name} "):
            return float(line.split()[1])
    return None


def sizes(server):
    return (server.root / "sizes").read_text().splitlines()[1:]


def test_what_queues_goes_together(server, pool):
    """Each gets its own rows back, of batches that are as large as the handlers allow."""
    requests = [[[n, n]] for n in range(5)]
    replies = gather(server, pool, *requests)
    assert [json.loads(reply.body) for reply in replies] == [[[2 * n, 2 * n]] for n in range(5)]
    assert sizes(server) == ["4x(2,)int64", "1x(2,)int64"]


def test_only_like_with_like(server, pool):
    """Rows of another width, and vectors, run by themselves."""
    replies = gather(server, pool, [[1, 1]], [[2, 2, 2]], [3, 3], [[4, 4]])
    found = [json.loads(reply.body) for reply in replies]
    assert found == [[[2, 2]], [[4, 4, 4]], [6, 6], [[8, 8]]]
    assert sorted(sizes(server)) == sorted(["2x(2,)int64", "1x(3,)int64", "2x()int64"])


def test_rows_are_counted(server, pool):
    """The limit is in rows: a request with many counts for as many."""
    gather(server, pool, [[1, 1]] * 3, [[2, 2]] * 2, [[3, 3]] * 9)
    assert sizes(server) == ["3x(2,)int64", "2x(2,)int64", "9x(2,)int64"]


def test_poison_fails_alone(server, pool):
    """One bad request does not spoil its neighbours."""
    replies = gather(server, pool, [[1, 1]], [[99, 1]], [[2, 2]])
    assert [reply.status for reply in replies] == [200, 500, 200]
    assert json.loads(replies[1].body)["error"]["message"] == "ValueError: 99 is poison"
    assert server.log.count("Traceback") == 1


def test_bad_body_fails_alone(server, pool):
    """So does one that can't even be read."""
    assert [reply.status for reply in gather(server, pool, [[1, 1]], ["x"])] == [200, 400]


def test_client_that_left_is_left_out(server, pool):
    """A request whose client has gone never reaches the model."""
    first = pool.submit(ask, server, [77, 77])
    wait_until((server.root / "running").exists)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        body = b"[[5, 5, 5]]"
        head = f"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Type: {JSON}\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: gauge(server, "queue_depth") == 1)
    wait_until(lambda: gauge(server, "requests_in_flight") == 1)
    server.let_go("hold")
    assert first.result().status == 200
    assert ask(server, [1, 1]).status == 200
    assert "3" not in {line.split("(")[1][0] for line in sizes(server)}
    wait_until(lambda: '"status":499' in server.log)


def test_metrics(tmp_path):
    """Counters of what was asked, in Prometheus's text."""
    with Server(tmp_path, "batching") as server:
        check_metrics(server.wait_ready())


def check_metrics(server):
    ask(server, [1, 1])
    ask(server, "x")
    reply = server.request("GET", "/metrics")
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = reply.text.splitlines()
    assert 'byoc_requests_total{status="200"} 1' in lines
    assert 'byoc_requests_total{status="400"} 1' in lines
    assert 'byoc_request_seconds_count{stage="predict"} 1' in lines
    assert 'byoc_request_seconds_bucket{stage="total",le="+Inf"} 2' in lines
    assert "byoc_batch_size_count 2" in lines
    assert gauge(server, "ready") == 1
    assert any(line.startswith('byoc_worker_resident_bytes{slot="0"} ') for line in lines)


def test_operator_decides_on_batches(tmp_path, pool):
    """The variable comes before the handlers' own word."""
    with Server(tmp_path, "batching", BYOC_BATCH="1", **ONE_WORKER) as server:
        server.wait_ready()
        gather(server, pool, [[1, 1]], [[2, 2]])
        assert sizes(server) == ["1x(2,)int64"] * 2


@pytest.mark.parametrize(("batch", "strategy"), [("true", "MULTI_RECORD"), ("True", "MultiRecord")])
def test_execution_parameters(tmp_path, batch, strategy):
    """Numbers as numbers, within the platform's product, spelled as the caller expects."""
    environ = {"SAGEMAKER_BATCH": batch, "SAGEMAKER_MODEL_SERVER_WORKERS": "2"}
    with Server(tmp_path, "echo", **environ) as server:
        server.wait_ready()
        reply = server.request("GET", "/execution-parameters")
        assert json.loads(reply.body) == {
            "MaxConcurrentTransforms": 4,
            "BatchStrategy": strategy,
            "MaxPayloadInMB": 6,
        }


def test_unlimited_in_batch_transform(tmp_path):
    """A job may ask for no limit: a chunked body of any size is taken whole."""
    environ = {"SAGEMAKER_BATCH": "true", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "0"}
    with Server(tmp_path, "echo", **environ) as server:
        server.wait_ready()
        pieces = (bytes([number]) * 2**20 for number in range(30))
        headers = {"Content-Type": "a/b"}
        reply = server.request("POST", "/invocations", pieces, headers, timeout=60)
        assert (reply.status, len(reply.body)) == (200, 30 * 2**20)
        assert reply.body[:: 2**20] == bytes(range(30))


def test_own_routes(tmp_path):
    """`app` in the handlers' file answers what the server does not, beside the model."""
    with Server(tmp_path, "routes") as server:
        server.wait_ready()
        reply = server.request("POST", "/v1/describe/it?q=1", b'{"a": 1}', {"Content-Type": JSON})
        assert json.loads(reply.body) == {
            "what": "it",
            "name": "a model",
            "body": {"a": 1},
            "q": "1",
        }
        teapot = server.request("GET", "/teapot")
        assert (teapot.status, teapot.text, teapot.headers["X-Own"]) == (
            418,
            "short and stout",
            "yes",
        )
        assert server.request("GET", "/nowhere").status == 404
        assert server.request("GET", "/fails").status == 500
        assert server.invoke(b"[1]").status == 200
        assert server.request("GET", "/invocations").status == 405
