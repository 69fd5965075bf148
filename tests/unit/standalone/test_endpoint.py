"""Waiting for a serving container, seen with a container that only pretends."""

from __future__ import annotations

import http.server
import threading
from collections import deque

import pytest

from sagemaker_byoc.contract.errors import MachineError, RequestError
from sagemaker_byoc.host.ports import free_port
from sagemaker_byoc.region.containers.health import ContainerLog, EndpointError, wait_until_healthy
from sagemaker_byoc.standalone import endpoint


class Fake:
    """A container that has `code` as its exit code."""

    def __init__(self, code=None):
        self.code = code
        self.closed = False

    def lines(self):
        yield "no weights"

    def exit_code(self):
        return self.code

    def wait(self):
        return self.code

    def stop(self, grace):
        self.code = 0

    def collect(self):
        pass

    def close(self):
        self.closed = True


class FakeEngine:
    name = "fake"

    def __init__(self, container):
        self.container = container
        self.spec = None

    def start(self, spec):
        self.spec = spec
        return self.container


@pytest.fixture
def pinged():
    """A server on a free port whose /ping is 503 twice, then 200."""
    answers = deque([503, 503])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(answers.popleft() if answers else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def log_of(container):
    log = ContainerLog(container, lambda line: None)
    log.start()
    log.join()
    return log


def request(tmp_path, **more):
    model = tmp_path / "model"
    model.mkdir(exist_ok=True)
    values = {
        "name": "endpoint-1",
        "work": tmp_path / "work",
        "model": model,
        "port": free_port(),
        "environment": {},
    }
    return endpoint.EndpointRequest(**{**values, **more})


@pytest.mark.slow
def test_healthy_once_ping_is_200(pinged):
    """503 while loading is waited for."""
    container = Fake()
    wait_until_healthy(container, pinged, 10, log_of(container))


def test_a_dead_container_is_told_at_once_with_its_log():
    """No timeout is waited for, and the user sees why."""
    container = Fake(code=1)
    with pytest.raises(EndpointError, match=r"exit code 1(.|\n)*no weights"):
        wait_until_healthy(container, 1, 60, log_of(container))


def test_timeout_says_what_was_last_answered():
    """A container that never answers is given up on."""
    container = Fake()
    with pytest.raises(EndpointError, match="not 200 within 0 s"):
        wait_until_healthy(container, free_port(), 0.2, log_of(container))


def test_container_and_folder_go_with_the_endpoint(tmp_path):
    """Also when it never became healthy."""
    container = Fake(code=1)
    wanted = request(tmp_path)
    with (
        pytest.raises(EndpointError),
        endpoint.open_endpoint(wanted, FakeEngine(container), lambda line: None),
    ):
        pass
    assert container.closed
    assert not wanted.work.exists()


@pytest.mark.slow
def test_taken_port_is_a_machine_error(pinged):
    """The hint names the option."""
    with pytest.raises(MachineError, match="--port"):
        endpoint.require_free(pinged)


def test_missing_model_is_a_request_error(tmp_path):
    """Before anything is started."""
    wanted = request(tmp_path, model=tmp_path / "absent")
    with (
        pytest.raises(RequestError, match="no model"),
        endpoint.open_endpoint(wanted, FakeEngine(Fake()), lambda line: None),
    ):
        pass
