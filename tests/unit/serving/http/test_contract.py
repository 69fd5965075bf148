"""What a client of the running server sees: routes, media types, limits, errors."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import pickle

import numpy as np
import pytest
from tests.support.arrays import npy
from tests.unit.serving.harness import JSON, Server, wait_until

pytestmark = pytest.mark.slow  # real processes

LIMIT = 2**20


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    environ = {
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "1",
        "GUNICORN_CMD_ARGS": "--workers 3 --timeout 1",
        "WEB_CONCURRENCY": "auto",
    }
    with Server(tmp_path_factory.mktemp("numbers"), "numbers", **environ) as running:
        yield running.wait_ready()


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("echo"), "echo") as running:
        yield running.wait_ready()


def error_of(reply):
    """The error document, which is the same for all errors."""
    assert reply.headers["Content-Type"] == JSON
    error = json.loads(reply.body)["error"]
    assert set(error) == {"code", "message", "request_id"}
    assert "Traceback" not in error["message"]
    return error


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_ping_is_empty(server, method):
    """A ready server answers every kind of ping with 200 and nothing."""
    reply = server.ping(method)
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["Content-Type"] is None


def test_nobody_changes_gunicorn(server):
    """The environment asked for other numbers of processes, and there is one."""
    _, workers = server.front()
    assert len(workers) == 1


@pytest.mark.parametrize(
    "content_type", [JSON, "application/json; charset=utf-8", "Application/JSON"]
)
def test_json(server, content_type):
    """Numbers in, numbers out, whatever the spelling of the type."""
    reply = server.invoke(b"[[1, 2], [3, 4]]", content_type)
    assert (reply.status, json.loads(reply.body)) == (200, [[2, 4], [6, 8]])
    assert reply.headers["Content-Type"] == JSON


def test_instances_get_predictions(server):
    """Who sends instances reads predictions."""
    assert json.loads(server.invoke(b'{"instances": [[1]]}').body) == {"predictions": [[2]]}


@pytest.mark.parametrize(
    ("accept", "expected", "body"),
    [
        ("text/csv", "text/csv", b"2,4\n"),
        ("application/x-jsonlines", "application/x-jsonlines", b"[2,4]\n"),
        ("text/csv;q=0.1, application/jsonlines", "application/jsonlines", b"[2,4]\n"),
        ("*/*", JSON, b"[[2,4]]"),
        ("image/png, text/*;q=0.2", "text/csv", b"2,4\n"),
    ],
)
def test_accept(server, accept, expected, body):
    """The caller's preference decides, and the reply says exactly what it is."""
    reply = server.invoke(b"1,2\n", "text/csv", Accept=accept)
    assert (reply.headers["Content-Type"], reply.body) == (expected, body)


def test_npy_both_ways(server):
    """Large arrays travel as they are."""
    array = np.arange(50_000, dtype=np.int32)
    reply = server.invoke(npy(array), "application/x-npy", Accept="application/x-npy")
    np.testing.assert_array_equal(np.load(io.BytesIO(reply.body)), 2 * array)


def test_npy_with_pickle(server):
    """A pickle inside of a .npy is named and not loaded."""
    body = npy(np.array([{"a": 1}], dtype=object), allow_pickle=True)
    reply = server.invoke(body, "application/x-npy")
    assert reply.status == 400
    assert "pickle" in error_of(reply)["message"]


@pytest.mark.parametrize(
    ("body", "content_type", "status", "part"),
    [
        (b'[1,\n2, "a]', JSON, 400, "line 2 column"),
        (b"", JSON, 400, "empty"),
        (b'{"rows": [1]}', JSON, 400, "instances"),
        (b"[[1, 2], [3]]", JSON, 400, "equal length"),
        (b"a,b\n1,2\n", "text/csv", 400, "header=present"),
        (pickle.dumps(1), "application/x-python-pickle", 415, "application/x-npy"),
        (b"1", "nonsense", 415, "nonsense"),
        (b"\xff\xfe", "text/csv", 400, "utf-8"),
    ],
)
def test_bad_input(server, body, content_type, status, part):
    """A caller's mistake is named to the caller."""
    reply = server.invoke(body, content_type)
    assert reply.status == status
    assert part in error_of(reply)["message"]


def test_csv_header_by_parameter(server):
    """RFC 4180's parameter tells of a header row."""
    reply = server.invoke(b"a,b\n1,2\n", "text/csv; header=present", Accept="text/csv")
    assert reply.body == b"2,4\n"


def test_not_acceptable(server):
    """406 lists what there is."""
    reply = server.invoke(b"[1]", Accept="image/png")
    assert reply.status == 406
    assert "text/csv" in error_of(reply)["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/invocations", 405)]
)
def test_unknown_route(server, method, path, status):
    """Even these errors are JSON."""
    reply = server.request(method, path)
    assert reply.status == status
    error_of(reply)


def test_too_large(server):
    """413 reaches a client that first sends everything."""
    reply = server.invoke(bytes(8 * LIMIT), "application/x-npy")
    assert reply.status == 413
    assert str(LIMIT) in error_of(reply)["message"]


def test_too_large_chunked(server):
    """A chunked body over the limit is refused, neither cut off nor accepted."""
    body = (bytes(LIMIT // 4) for _ in range(12))
    headers = {"Content-Type": "application/x-npy"}
    assert server.request("POST", "/invocations", body, headers).status == 413


def test_chunked(server):
    """A chunked body below the limit is whole."""
    array = np.arange(100_000, dtype=np.int32)
    parts = (npy(array)[start : start + 9_999] for start in range(0, 400_128, 9_999))
    headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
    reply = server.request("POST", "/invocations", parts, headers)
    np.testing.assert_array_equal(np.load(io.BytesIO(reply.body)), 2 * array)


def test_connection_is_kept(server):
    """Two requests on one connection, of which the first is refused."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    with contextlib.closing(connection):
        for content_type, status in (("image/png", 415), (JSON, 200)):
            connection.request("POST", "/invocations", b"[1]", {"Content-Type": content_type})
            response = connection.getresponse()
            response.read()
            assert response.status == status
            assert connection.sock is not None


def test_bytes_and_attributes(echo):
    """A user's input_fn gets any type, and decides on the attributes that go back."""
    body = bytes(range(256)) * 1000
    header = "X-Amzn-SageMaker-Custom-Attributes"
    reply = echo.invoke(body, "image/x-own; a=b", **{header: "trace=7"})
    assert (reply.status, reply.body) == (200, body)
    assert reply.headers["Content-Type"] == "image/x-own; a=b"
    assert reply.headers[header].startswith("trace=7;pid=")
    assert echo.invoke(b"1").headers[header] is None


def test_log_line(echo):
    """One JSON line for a request, with its inference id."""
    echo.invoke(b"abc", "text/plain", **{"X-Amzn-SageMaker-Inference-Id": "one-of-many"})
    wait_until(lambda: "one-of-many" in echo.log)
    lines = [json.loads(line) for line in echo.log.splitlines() if "one-of-many" in line]
    assert len(lines) == 1
    assert (lines[0]["status"], lines[0]["bytes_in"], lines[0]["bytes_out"]) == (200, 3, 3)
    assert lines[0]["total_ms"] >= lines[0]["handler_ms"] >= 0
