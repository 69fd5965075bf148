"""An engine whose containers are threads of this process that behave as their variables tell them.

MODE  ok | exits | deaf (never listens) | ill (/ping is 503)      FILE  exists: healthy only then
Requests are answered by the first word of their body, see `Handler.invoke`.
ROOM  how many models a multi-model container loads; a model whose file says so is SLOW or BAD to
load, and STAYING (the container keeps it) or LEAVING (slowly) when it is unloaded.
"""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from sagemaker_byoc.region.containers.images import PullError
from sagemaker_byoc.region.containers.specs import Image
from sagemaker_byoc.region.wire.operations import AwsError

BOUND = 10.0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet

    def do_GET(self):
        wanted = self.server.container.variables.get("FILE")
        is_well = not self.server.container.ill and (wanted is None or Path(wanted).exists())
        self.answer(200 if is_well else 503, b"")

    def do_DELETE(self):
        container = self.server.container
        container.requests.append((dict(self.headers), b"DELETE"))
        name = self.path.removeprefix("/models/")
        if container.models.get(name) == "STAYING":
            return self.answer(500, b"in use")
        if container.models.get(name) == "LEAVING":
            container.waiting.release()
            assert container.release.wait(BOUND)
        gone = container.models.pop(name, None)
        return self.answer(404 if gone is None else 200, b"")

    def load(self, asked):
        """Load a model as a multi-model container does."""
        container = self.server.container
        assert asked["url"] == f"/opt/ml/models/{asked['model_name']}/model"
        folder = container.spec.tree.root / "models" / asked["model_name"] / "model"
        what = (folder / "answer").read_text()
        if what == "BAD":
            return self.answer(500, b"no weights")
        if what == "SLOW":
            container.waiting.release()
            assert container.release.wait(BOUND)
        if asked["model_name"] in container.models:
            return self.answer(409, b"")
        if len(container.models) >= int(container.variables.get("ROOM", 9)):
            return self.answer(507, b"no memory")
        container.models[asked["model_name"]] = what
        container.loads.append(what)
        return self.answer(200, b"{}")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/models":
            self.load(json.loads(body))
        elif self.path == "/invocations":
            self.invoke(body)
        else:
            self.invoke_model(self.path.removeprefix("/models/").removesuffix("/invoke"), body)

    def invoke_model(self, name, body):
        models = self.server.container.models
        if name not in models:
            self.answer(404, b"unknown model")
        elif body == b"model":
            self.answer(200, models[name].encode())
        else:
            self.invoke(body)

    def invoke(self, body):
        word, _, rest = body.partition(b" ")
        container = self.server.container
        container.requests.append((dict(self.headers), body))
        if word == b"wait":
            container.waiting.release()
            assert container.release.wait(BOUND)
        elif word == b"fail":
            return self.answer(int(rest), b"kaput")
        elif word == b"headers":
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = json.dumps(headers).encode()
        elif word == b"cut":
            self.answer(200, rest, length=len(rest) + 10)
            self.close_connection = True
            return None
        elif word == b"session":
            return self.answer(200, b"", **{"X-Amzn-SageMaker-New-Session-Id": rest.decode()})
        elif word == b"end":
            return self.answer(200, b"", **{"X-Amzn-SageMaker-Closed-Session-Id": rest.decode()})
        elif word == b"stream":
            return self.stream(rest)
        elif word == b"who":
            body = container.spec.name.encode()
        elif word == b"large":
            body = bytes(int(rest))
        prefix = container.variables.get("PREFIX", "").encode()
        return self.answer(200, prefix + body)

    def answer(self, status, body, length=None, **more):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.send_header("Content-Type", "text/plain")
        self.send_header("X-Private", "secret")
        self.send_header("X-Amzn-SageMaker-Custom-Attributes", "from-container")
        for name, value in more.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def stream(self, rest):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        for word in rest.split():
            if word == b"!":
                self.close_connection = True
                return
            self.wfile.write(b"%x\r\n%s\r\n" % (len(word), word))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass


class FakeContainer:
    """A container."""

    def __init__(self, engine, spec):
        self.engine = engine
        self.spec = spec
        self.variables = spec.environment
        self.requests = []
        self.models = {}
        """What each loaded model answers, by its name."""
        self.loads = []
        self.waiting = threading.Semaphore(0)
        self.release = threading.Event()
        self.graces = []
        self.code = None
        self.ill = self.mode == "ill"
        self._lines = queue.SimpleQueue()
        self._lines.put(f"model: {(spec.inputs.get('model') or Path('none')).name}")
        self._server = None
        if self.mode == "exits":
            for number in range(30):
                self._lines.put(f"line {number} " + "x" * 100)
            self._lines.put("no weights")
            self.die(1)
        elif self.mode in {"ok", "ill"}:
            self._server = Server(("127.0.0.1", spec.port), Handler)
            self._server.container = self
            threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def mode(self):
        return self.variables.get("MODE", "ok")

    def die(self, code):
        """As a container whose process ends: its connections are cut."""
        if self.code is None:
            self.code = code
            self._lines.put(None)
            if self._server is not None:
                self._server.shutdown()
                self._server.socket.close()

    def lines(self):
        while (line := self._lines.get(timeout=60)) is not None:
            yield line

    def exit_code(self):
        return self.code

    def wait(self):
        return self.code

    def stop(self, grace):
        self.graces.append(grace)
        self.die(0)

    def close(self):
        self.die(137)
        self.engine.running.discard(self)


class FakeEngine:
    name = "fake"
    shares_files = True
    interface = "lo"

    def __init__(self):
        self.started = []
        self.running = set()
        self.swept = []

    def start(self, spec):
        assert spec.tree.root.is_dir()
        container = FakeContainer(self, spec)
        self.started.append(container)
        self.running.add(container)
        return container

    def sweep(self, labels, trees):
        self.swept.append((dict(labels), [tree.root for tree in trees]))
        return 0


class FakeImages:
    def __init__(self):
        self.pulling = threading.Event()

    def resolve(self, uri):
        if uri.startswith("absent"):
            raise AwsError("ValidationException", f"Cannot find image {uri}: none. Build it")
        machine = "arm64" if uri.startswith("arm") else ""
        return Image(
            uri=uri, resolved=f"{uri}@sha256:1", digest="sha256:1", name=uri, architecture=machine
        )

    def bring(self, image, *, is_stopped=lambda: False):
        """Bring `slow…` images only when it is stopped, and `broken…` ones not at all."""
        if image.uri.startswith("broken"):
            raise PullError("ValidationException", f"Cannot pull image {image.uri}: disk. Clear it")
        if image.uri.startswith("slow"):
            self.pulling.set()
            wait_for(is_stopped, "the end of the pull")
            self.pulling.clear()


def wait_for(condition, what):
    """Poll `condition`, for what has no other way to be waited for."""
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
