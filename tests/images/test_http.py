"""The hosting contract over HTTP: the same tests against the process and against the container."""

from __future__ import annotations

import http.client
import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from random import Random

import numpy as np
import pytest
from tests.images.conftest import NAMES
from tests.images.containers import wait_until
from tests.images.http_targets import Reply, Target, ask, started, wait_for_ping
from tests.support.arrays import npy
from tests.unit.serving.harness import ONE_WORKER
from tests.unit.serving.http import wire_cases

from sagemaker_byoc.serving.worker.formats import named_arrays

JSON, LINES, CSV = "application/json", "application/jsonlines", "text/csv"
NPY, NPZ, SAFE = "application/x-npy", "application/x-npz", "application/x-safetensors"
MEGABYTE = 2**20
ROWS = np.array([[1, 2], [3, 4]], np.float32)
KINDS = [
    pytest.param("process", marks=pytest.mark.slow),
    pytest.param("container", marks=pytest.mark.docker),
]
Start = Callable[..., Target]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start(kind: str, run: str, tmp_path: Path) -> Iterator[Start]:
    """Start a server of one of the zoo's models, for one test."""
    with ExitStack() as stack:

        def enter(model: str, **environ: str) -> Target:
            made: AbstractContextManager[Target] = started(
                kind, model, tmp_path, image=NAMES["serve"], run=run, **environ
            )
            return stack.enter_context(made)

        yield enter


@pytest.fixture(scope="module")
def target(kind: str, run: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server for all tests that leave it as it was."""
    root = tmp_path_factory.mktemp(kind)
    environ = {"SAGEMAKER_MAX_PAYLOAD_IN_MB": "1"}
    with started(kind, "everything", root, image=NAMES["serve"], run=run, **environ) as running:
        wait_for_ping(running, 200)
        yield running


def invoke(target: Target, body: bytes, content_type: str = JSON, accept: str = "*/*") -> Reply:
    headers = {"Content-Type": content_type, "Accept": accept}
    return ask(target, "POST", "/invocations", body, headers)


def code_of(reply: Reply) -> str:
    """The error's code; a document of the one shape, and no traceback in it."""
    error = json.loads(reply.body)["error"]
    assert set(error) == {"code", "message", "request_id"}
    assert b"Traceback" not in reply.body
    return str(error["code"])


ENCODED = {
    JSON: b"[[1,2],[3,4]]",
    LINES: b"[1,2]\n[3,4]\n",
    CSV: b"1,2\n3,4\n",
    NPY: npy(ROWS),
    NPZ: named_arrays.encode_npz({"a": ROWS}),
    SAFE: named_arrays.encode_safetensors({"a": ROWS}),
}
DECODERS: dict[str, Callable[[bytes], object]] = {
    JSON: json.loads,
    LINES: lambda body: [json.loads(line) for line in body.splitlines()],
    CSV: lambda body: np.loadtxt(io.BytesIO(body), delimiter=",").tolist(),
    NPY: lambda body: np.load(io.BytesIO(body)).tolist(),
    NPZ: lambda body: np.load(io.BytesIO(body))["output"].tolist(),
    SAFE: lambda body: named_arrays.decode_safetensors(body)["output"].tolist(),
}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_ping(target: Target, method: str) -> None:
    """200 and nothing else."""
    reply = ask(target, method, "/ping")
    assert (reply.status, reply.body) == (200, b"")


def test_ping_while_loading(start: Start) -> None:
    """503 with the reason until the model is there; an invocation is not kept waiting."""
    target = start("slow_load")
    wait_for_ping(target, 503)
    assert json.loads(ask(target, "GET", "/ping").body)["status"] == "loading"
    assert invoke(target, b"1").status == 503
    target.touch("load")
    wait_for_ping(target, 200)


@pytest.mark.parametrize("content_type", ENCODED)
@pytest.mark.parametrize("accept", DECODERS)
def test_media_types(target: Target, content_type: str, accept: str) -> None:
    """Each type in, each type out, and the reply says exactly what it is."""
    reply = invoke(target, ENCODED[content_type], content_type, accept)
    assert (reply.status, reply.headers["Content-Type"]) == (200, accept)
    assert DECODERS[accept](reply.body) == [[2, 4], [6, 8]]


@pytest.mark.parametrize(
    ("body", "content_type", "accept", "expected"),
    [
        (b"1", "application/x-own", "*/*", (415, "UnsupportedMediaType")),
        (b"1", "nonsense", "*/*", (415, "UnsupportedMediaType")),
        (b"[[1]]", JSON, "image/png", (406, "NotAcceptable")),
        (b"[[1]]", JSON, "application/json;q=0", (406, "NotAcceptable")),
        (b"", JSON, "*/*", (400, "BadInput")),
        (b"[[1,", JSON, "*/*", (400, "BadInput")),
        (b"a,b\n1,2\n", CSV, "*/*", (400, "BadInput")),
        (ENCODED[NPZ][:-9], NPZ, "*/*", (400, "BadInput")),
        (ENCODED[SAFE][:20], SAFE, "*/*", (400, "BadInput")),
        (ENCODED[NPY][:-1], NPY, "*/*", (400, "BadInput")),
        (b"[[-3]]", JSON, "*/*", (500, "ModelError")),
    ],
)
def test_refusals(
    target: Target, body: bytes, content_type: str, accept: str, expected: tuple[int, str]
) -> None:
    """A short typed document for the caller, and the server goes on."""
    reply = invoke(target, body, content_type, accept)
    assert (reply.status, code_of(reply)) == expected
    assert invoke(target, b"[[1]]").body == b"[[2]]"


@pytest.mark.parametrize("content_type", ENCODED)
def test_malformed_bodies_hurt_nobody(target: Target, content_type: str) -> None:
    """Bodies with a few bytes changed are answered or refused; a neighbour is answered."""
    random = Random(content_type)
    with ThreadPoolExecutor() as pool:
        for _ in range(10):
            bodies = [mutated(ENCODED[content_type], random) for _ in range(8)]
            bad = [pool.submit(invoke, target, body, content_type, NPY) for body in bodies]
            good = pool.submit(invoke, target, b"[[1]]")
            assert {entry.result().status for entry in bad} <= {200, 400, 406}
            assert good.result().body == b"[[2]]"


def mutated(body: bytes, random: Random) -> bytes:
    """With up to four pieces cut out, overwritten or put in; no number that the model heeds."""
    changed = bytearray(body)
    for _ in range(random.randint(1, 4)):
        start = random.randint(0, len(changed))
        changed[start : start + random.randint(0, 6)] = random.randbytes(random.randint(0, 6))
    return bytes(changed).replace(b"-", b"+")


@pytest.mark.parametrize("is_chunked", [True, False])
def test_too_large(target: Target, is_chunked: bool) -> None:
    """413 arrives, though the client sends everything first."""
    parts = [bytes(MEGABYTE)] * 3
    body = iter(parts) if is_chunked else b"".join(parts)
    reply = ask(target, "POST", "/invocations", body, {"Content-Type": NPY})
    assert (reply.status, code_of(reply)) == (413, "PayloadTooLarge")


@pytest.fixture(scope="module")
def echo(kind: str, run: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server of the echo model; the image's has gunicorn's parser in C."""
    root = tmp_path_factory.mktemp("echo")
    environ = {"SAGEMAKER_MAX_PAYLOAD_IN_MB": "1"}
    with started(kind, "echo", root, image=NAMES["serve"], run=run, **environ) as running:
        wait_for_ping(running, 200)
        yield running


@pytest.mark.parametrize("name", wire_cases.CASES)
def test_wire(echo: Target, name: str) -> None:
    """Both parsers answer alike."""
    wire_cases.CASES[name].check(echo.address)


@pytest.mark.parametrize("name", wire_cases.ONE_SIDED)
def test_one_sided(echo: Target, name: str) -> None:
    """The end of what a client sends is not the end of what it reads."""
    wire_cases.check_one_sided(echo.address, name)


def test_chunked(target: Target) -> None:
    """A body in pieces is whole, large and small."""
    array = np.arange(100_000, dtype=np.int32)
    data = npy(array)
    parts = (data[at : at + 9_999] for at in range(0, len(data), 9_999))
    headers = {"Content-Type": NPY, "Accept": NPY}
    reply = ask(target, "POST", "/invocations", parts, headers)
    np.testing.assert_array_equal(np.load(io.BytesIO(reply.body)), 2 * array)
    reply = ask(target, "POST", "/invocations", iter([b"[[", b"1]]"]), {"Content-Type": JSON})
    assert reply.body == b"[[2]]"


def test_streams(target: Target) -> None:
    """A generator's items: lines, or events for those who ask for them."""
    reply = invoke(target, b"[[-1]]", accept=LINES)
    assert reply.headers["Transfer-Encoding"] == "chunked"
    assert reply.body.splitlines() == [b'{"n":0}', b'{"n":1}', b'{"n":2}']
    events = invoke(target, b"[[-1]]", accept="text/event-stream")
    assert events.body.startswith(b'data: {"n":0}\n\n')


def test_cut_stream(target: Target) -> None:
    """A late error is shown by the only means left: no last chunk."""
    with pytest.raises(http.client.IncompleteRead):
        invoke(target, b"[[-4]]", accept=LINES)
    assert invoke(target, b"[[1]]").status == 200


def test_other_routes(target: Target) -> None:
    """Batch transform's question, and Prometheus's."""
    asked = json.loads(ask(target, "GET", "/execution-parameters").body)
    assert asked.keys() == {"MaxConcurrentTransforms", "BatchStrategy", "MaxPayloadInMB"}
    assert all(isinstance(asked[name], int) for name in asked if name.startswith("Max"))
    assert invoke(target, b"[[1]]").status == 200
    metrics = ask(target, "GET", "/metrics")
    assert metrics.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b"byoc_requests_total" in metrics.body
    assert ask(target, "GET", "/invocations").status == 405
    assert ask(target, "GET", "/nowhere").status == 404


def test_work_in_flight_outlives_sigterm(start: Start) -> None:
    """What runs and what waits is answered, nobody new gets in, exit 0."""
    target = start("everything", **ONE_WORKER)
    wait_for_ping(target, 200)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(invoke, target, b"[[-2]]")
        wait_until(lambda: target.has("running"), "the request in the model")
        waiting = pool.submit(invoke, target, b"[[1]]")
        wait_until(
            lambda: b"byoc_queue_depth 1" in ask(target, "GET", "/metrics").body, "one waits"
        )
        stopping = pool.submit(target.stop)
        wait_for_ping(target, 0)
        target.touch("go")
        assert (running.result().body, waiting.result().body) == (b"[[-4]]", b"[[2]]")
        assert stopping.result() == 0
