"""A multi-model endpoint, over HTTP, with real processes."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import textwrap
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
from tests.unit.serving.harness import Server, children, is_alive, wait_until

pytestmark = pytest.mark.slow  # real processes

HELPED = """
    import os
    import helper

    def model_fn(model_dir):
        return helper.NAME

    def input_fn(body, content_type):
        return body.decode()

    def predict_fn(data, model):
        return f"{model} {os.getpid()}"

    def output_fn(prediction, accept):
        return prediction
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    with Many(tmp_path_factory.mktemp("many")) as running:
        yield running.wait_ready()


@pytest.fixture
def server(many):
    """The shared server; each test begins without models."""
    yield many
    for name in many.names():
        assert many.request("DELETE", f"/models/{quote(name, safe='')}").status == 200
    shutil.rmtree(many.root / "models", ignore_errors=True)


class Many(Server):
    """A multi-model server and its models' folders."""

    def __init__(self, root, **environ):
        super().__init__(root, SAGEMAKER_MULTI_MODEL="true", **environ)

    def put(self, name, code=HELPED, **files):
        folder = self.root / "models" / name / "model"
        (folder / "code").mkdir(parents=True)
        (folder / "code" / "inference.py").write_text(textwrap.dedent(code))
        (folder / "code" / "helper.py").write_text(f"NAME = {name!r}\n")
        return str(folder)

    def load(self, name, url=None):
        body = json.dumps({"model_name": name, "url": url or self.put(name)})
        return self.request("POST", "/models", body, {"Content-Type": "application/json"})

    def ask(self, name):
        return self.request("POST", f"/models/{name}/invoke", b"x", {"Content-Type": "text/plain"})

    def pid(self, name):
        return int(self.ask(name).text.split()[1])

    def names(self):
        found = json.loads(self.request("GET", "/models").body)["models"]
        return [model["modelName"] for model in found]


def proportional(pid):
    """PSS in bytes of a process and its children."""
    total = 0
    for each in (pid, *children(pid)):
        for line in pathlib.Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def test_life_of_models(server):
    """No model is healthy; two models with modules of one name stay apart; one leaves."""
    assert (server.names(), server.ping().status) == ([], 200)
    assert server.load("a").status == 200
    assert server.load("b").status == 200
    assert server.ask("a").text.startswith("a ")
    assert server.ask("b").text.startswith("b ")
    entry = json.loads(server.request("GET", "/models/a").body)
    assert entry == {"modelName": "a", "modelUrl": str(server.root / "models/a/model")}
    pid = server.pid("a")
    assert server.request("DELETE", "/models/a").status == 200
    assert not is_alive(pid)
    assert server.names() == ["b"]
    assert server.ask("a").status == 404
    assert server.request("GET", "/models/a").status == 404
    assert server.request("DELETE", "/models/a").status == 404
    assert server.ask("b").status == 200
    assert server.load("a", str(server.root / "models/a/model")).status == 200


def test_platform_path(server):
    """/opt/ml/models is where SAGEMAKER_BASE_DIR is; a listing says what was asked for."""
    server.put("a")
    url = "/opt/ml/models/a/model"
    assert server.load("a", url).status == 200
    assert json.loads(server.request("GET", "/models/a").body)["modelUrl"] == url
    assert server.ask("a").text.startswith("a ")


APP = """
    import flask
    app = flask.Flask(__name__)

    @app.post("/invocations")
    def invocations():
        return flask.Response(flask.request.data + b" of its own", 203)
"""


def test_application_among_models(server):
    """A model's own application answers its invocations."""
    assert server.load("own", server.put("own", APP)).status == 200
    reply = server.ask("own")
    assert (reply.status, reply.text) == (203, "x of its own")


def test_loads_at_once(server):
    """If one model is loaded several times at once, one load wins; there is one process."""
    url = server.put("a")
    with ThreadPoolExecutor(4) as pool:
        statuses = sorted(
            reply.status for reply in pool.map(lambda _: server.load("a", url), "1234")
        )
    assert statuses == [200, 409, 409, 409]
    workers = [
        pid
        for pid in children(server.process.pid)
        if b"serving.worker" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert len(workers) == 1


def test_memory_comes_back(server):
    """What a model held is free when DELETE answers."""
    size = 150 * 2**20
    url = server.put("large", HELPED.replace("return helper.NAME", f"return bytes([1]) * {size}"))
    before = proportional(server.process.pid)
    assert server.load("large", url).status == 200
    during = proportional(server.process.pid)
    assert server.request("DELETE", "/models/large").status == 200
    after = proportional(server.process.pid)
    assert during - before > size
    assert after - before < size / 10


def test_no_memory(tmp_path):
    """507 before anything starts; the server continues."""
    with Many(tmp_path, BYOC_MODEL_MEMORY_MB=str(2**30)) as server:
        server.wait_ready()
        reply = server.load("a")
        assert reply.status == 507
        assert json.loads(reply.body)["error"]["code"] == "OutOfMemory"
        assert len(children(server.process.pid)) == 1  # the front
        assert server.ping().status == 200


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        ("raise ValueError('another century')", 500, "ValueError: another century"),
        ("raise MemoryError('no more')", 507, "MemoryError"),
        ("os.kill(os.getpid(), 9)", 507, "SIGKILL"),
        ("os.abort()", 500, "SIGABRT"),
        ("raise SystemExit(3)", 500, "SystemExit"),
    ],
)
def test_load_fails(server, line, status, words):
    """The reason reaches the caller; other models do not notice; another try is another load."""
    server.load("good")
    url = server.put("bad", HELPED.replace("return helper.NAME", line))
    reply = server.load("bad", url)
    assert (reply.status, words in reply.text) == (status, True), reply.text
    assert server.names() == ["good"]
    assert server.ask("good").status == 200
    assert server.load("bad", url).status == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"model_name": "a/b", "url": "/opt/ml/models/a"}', 400),
        (b'{"model_name": "", "url": "/opt/ml/models/a"}', 400),
        (b'{"model_name": "a"}', 400),
        (b'{"model_name": "a", "url": "/etc"}', 400),
        (b"x" * 20_000, 413),
    ],
)
def test_bad_load(server, body, status):
    """Refused with a reason; the table is as before."""
    assert server.request("POST", "/models", body).status == status
    assert server.names() == []


def test_loaded_already(server):
    """409 whatever the url of a second load is, as SageMaker takes it for success."""
    server.load("a")
    for url in ("/etc", "/nowhere", "x\0", str(server.root / "models/a")):
        assert server.load("a", url).status == 409
    assert server.ask("a").status == 200


def test_url_as_the_platform_writes_it(server):
    """/opt/ml/models means the folder in the tree that SAGEMAKER_BASE_DIR names."""
    server.put("a")
    assert server.load("a", "/opt/ml/models/a/model").status == 200
    assert server.ask("a").text.startswith("a ")
    assert json.loads(server.request("GET", "/models/a").body) == {
        "modelName": "a",
        "modelUrl": "/opt/ml/models/a/model",
    }
    assert server.load("b", "/opt/ml/models/../model").status == 400
    assert server.load("b", "/opt/ml/models/b/model").status == 404
    (server.root / "models" / "file").touch()
    assert server.load("b", "/opt/ml/models/file").status == 404


def test_odd_names(server):
    """A name is opaque; in a path it is percent-encoded."""
    folder = server.put("a")
    for name in ("a b", "ä", "a?b#c", "..", "invoke", "a%2Fb", "x" * 300):
        path = f"/models/{quote(name, safe='')}"
        assert server.load(name, folder).status == 200
        assert server.names() == [name]
        assert json.loads(server.request("GET", path).body)["modelName"] == name
        assert server.request("POST", f"{path}/invoke", b"x").status == 200
        assert server.request("DELETE", path).status == 200
        assert server.request("GET", path).status == 404


def test_routes(server):
    """Methods that are none get 405 with those that are; /invocations has no model here."""
    reply = server.request("PUT", "/models")
    assert (reply.status, reply.headers["Allow"]) == (405, "GET, POST")
    assert server.request("POST", "/models/a").headers["Allow"] == "GET, DELETE"
    assert server.invoke(b"1").status == 404
    assert server.request("GET", "/models/a/b/c").status == 404
    assert "byoc_ready 1" in server.request("GET", "/metrics").text


def test_worker_dies(server):
    """A killed model comes back by itself, and the others have not noticed."""
    server.load("a")
    server.load("b")
    first, other = server.pid("a"), server.pid("b")
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not is_alive(first))
    assert server.pid("b") == other
    assert wait_until(lambda: (reply := server.ask("a")).status == 200 and reply)
    assert server.pid("a") != first
    assert server.names() == ["a", "b"]


def test_front_dies(server):
    """The HTTP process starts again and knows the models, whose processes never stopped."""
    server.load("a")
    pid = server.pid("a")
    _, (http_process,) = server.front()
    os.kill(http_process, signal.SIGKILL)
    wait_until(lambda: not is_alive(http_process))
    server.wait_ready()
    assert server.names() == ["a"]
    wait_until(lambda: server.ask("a").status == 200)
    assert server.pid("a") == pid
    assert server.request("DELETE", "/models/a").status == 200
    assert not is_alive(pid)


def test_unload_waits(server):
    """A request that runs when its model is unloaded gets its answer."""
    code = HELPED.replace(
        'return f"{model} {os.getpid()}"',
        "\n        ".join(
            [
                "import pathlib, time",
                f"pathlib.Path({str(server.root / 'running')!r}).touch()",
                f"while not pathlib.Path({str(server.root / 'go')!r}).exists(): time.sleep(0.01)",
                'return f"{model} {os.getpid()}"',
            ]
        ),
    )
    server.load("a", server.put("a", code))
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(server.ask, "a")
        wait_until((server.root / "running").exists)
        left = pool.submit(server.request, "DELETE", "/models/a")
        wait_until(lambda: server.names() == [])
        server.let_go("go")
        assert (asked.result().status, left.result().status) == (200, 200)


def test_stop(tmp_path):
    """SIGTERM ends all models; nothing is left."""
    with Many(tmp_path) as server:
        server.wait_ready()
        server.load("a")
        server.load("b")
        pids = [server.pid("a"), server.pid("b")]
        server.send_signal()
        assert server.exit_code() == 0
        assert not any(is_alive(pid) for pid in pids)
