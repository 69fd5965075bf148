"""The serving image as SageMaker runs it: asked on port 8080, stopped with SIGTERM."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.images.containers import ZOO, Container, MakeContainer, wait_until

pytestmark = pytest.mark.docker

PORT = 8080
CODE = "/opt/ml/model/code"


@pytest.fixture
def server(make: MakeContainer) -> Callable[..., Container]:
    """Start a container that serves one of the zoo's models."""

    def start(model: str, *options: str) -> Container:
        return make(
            "serve",
            "serve",
            files={CODE: ZOO / "models" / model},
            options=["--env", "ZOO=/tmp", *options],
        ).start()

    return start


def ask(container: Container, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
    """Status and body; 0 where nobody answers."""
    connection = http.client.HTTPConnection(container.address, PORT, timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": "text/plain"})
        response = connection.getresponse()
        return response.status, response.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def wait_for_ping(container: Container, status: int) -> None:
    wait_until(
        lambda: not container.is_running or ask(container, "GET", "/ping")[0] == status,
        f"/ping says {status}",
    )
    assert container.is_running, container.log


def test_answers_and_stops(server: Callable[..., Container]) -> None:
    """Ping is 200 and empty, an invocation is answered, SIGTERM ends it with 0."""
    container = server("echo")
    wait_for_ping(container, 200)
    assert ask(container, "GET", "/ping") == (200, b"")
    assert ask(container, "POST", "/invocations", "hello") == (200, b"hello")
    assert container.stop(30) == 0


def test_a_request_in_flight_outlives_the_stop(server: Callable[..., Container]) -> None:
    """A request that the model is working on when SIGTERM comes gets its answer."""
    container = server("obedient")
    wait_for_ping(container, 200)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(ask, container, "POST", "/invocations", "wait /tmp/go")
        wait_until(lambda: container.has("/tmp/go.running"), "the request in the model")
        stop = pool.submit(container.stop, 30)
        wait_until(lambda: ask(container, "GET", "/ping")[0] != 200, "no more traffic")
        assert not answer.done()
        assert container.is_running
        container.execute("touch", "/tmp/go")
        assert answer.result()[0] == 200
        assert stop.result() == 0


def test_ping_is_503_while_the_model_loads(server: Callable[..., Container]) -> None:
    """The platform waits and sends no traffic; 200 comes with the model and not before."""
    container = server("slow_load")
    wait_for_ping(container, 503)
    container.execute("touch", "/tmp/load")
    wait_for_ping(container, 200)


def test_a_model_that_cannot_load_ends_the_container(server: Callable[..., Container]) -> None:
    """Not zero, and the cause in the log: no endpoint that answers pings for a dead model."""
    container = server("cannot_load")
    assert container.wait() != 0
    assert "the weights are from another century" in container.log


def test_any_uid_and_a_read_only_root(make: MakeContainer) -> None:
    """Serverless runs another user; nothing but /tmp has to be writable."""
    code = f"type=bind,source={ZOO / 'models' / 'echo'},target={CODE},readonly"
    options = ["--read-only", "--tmpfs", "/tmp", "--mount", code]
    container = make("serve", "serve", options=options, user=12345).start()
    wait_for_ping(container, 200)
    assert ask(container, "POST", "/invocations", "hello") == (200, b"hello")
    assert container.stop(30) == 0


def test_the_port_can_be_moved(server: Callable[..., Container]) -> None:
    """SAGEMAKER_BIND_TO_PORT, which the image's label promises to accept."""
    container = server("echo", "--env", "SAGEMAKER_BIND_TO_PORT=9090")
    program = "import urllib.request as r; r.urlopen('http://127.0.0.1:9090/ping')"
    ping = ("/opt/venv/bin/python", "-c", program)
    wait_until(lambda: container.execute(*ping, check=False).returncode == 0, "ping on 9090")


def test_serve_on_the_path_is_the_entry_point(make: MakeContainer) -> None:
    """The command `serve`, for those who override the entry point with it."""
    files = {CODE: ZOO / "models" / "echo"}
    container = make("serve", files=files, options=["--entrypoint", "serve"]).start()
    wait_for_ping(container, 200)
    assert container.stop(30) == 0
