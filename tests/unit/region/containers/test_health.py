"""Why nobody answers on the port of a container: told from where its processes listen."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from sagemaker_byoc.host.ports import free_port
from sagemaker_byoc.region.containers import health
from sagemaker_byoc.region.containers.health import Listener
from sagemaker_byoc.region.engines.container import Reach

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(sys.argv[2])); self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("listens", flush=True)
server.serve_forever()
"""


class Process:
    """A container of an engine whose containers share this machine's network."""

    def __init__(self, process):
        self.process = process

    def lines(self):
        yield from self.process.stdout

    def exit_code(self):
        return self.process.poll()

    def reach(self):
        return Reach(self.process.pid, has_own_network=False, address="127.0.0.1")


@contextmanager
def server(port, status=200):
    command = [sys.executable, "-S", "-c", SERVER, str(port), str(status)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout.readline() == "listens\n"
            yield Process(process)
        finally:
            process.kill()


def test_sees_what_a_process_listens_on():
    """Its own sockets only, although all of the machine's are in the same table."""
    port, other = free_port(), free_port()
    with server(port) as container, server(other):
        assert health.find_listeners(container.reach()) == [Listener(port, "127.0.0.1")]


def test_serving_on_another_port():
    """Certain once that port answers /ping; the message has both ports."""
    port, wanted = free_port(), free_port()
    with server(port) as container:
        fault = health.misplaced_listener(container.reach(), wanted)
        assert fault == f"it answers /ping on port {port}, and SageMaker asks on port {wanted}"
        assert health.misplaced_listener(container.reach(), port) is None


def test_some_other_port_is_no_proof():
    """A model may open ports of its own before it is loaded; they are named when time is up."""
    port, wanted = free_port(), free_port()
    with server(port, status=404) as container:
        assert health.misplaced_listener(container.reach(), wanted) is None
        told = health.describe_listeners(container.reach(), wanted)
        assert told == f"nothing in it listens on port {wanted}, only on 127.0.0.1:{port}"


def test_interface_that_nobody_reaches(monkeypatch):
    """In a network of its own, 127.0.0.1 is not where SageMaker asks; on the host's it is."""
    found = [Listener(8080, "127.0.0.1")]
    monkeypatch.setattr(health, "find_listeners", lambda reach: found)
    own = Reach(1, has_own_network=True, address="172.17.0.2")
    fault = health.misplaced_listener(own, 8080)
    assert fault is not None
    assert "127.0.0.1:8080 inside the container, and SageMaker needs 0.0.0.0:8080" in fault
    found.append(Listener(8080, "0.0.0.0"))
    assert health.misplaced_listener(own, 8080) is None


def test_process_that_has_ended():
    """Nothing is seen, nothing is raised."""
    assert health.find_listeners(Reach(2**22 + 1, has_own_network=True, address="")) == []


@pytest.mark.parametrize(
    ("line", "listener"),
    [
        ("0: 0100007F:1F90 00000000:0000 0A 0:0 00:0 0 0 0 77", Listener(8080, "127.0.0.1")),
        (
            "0: 00000000000000000000000001000000:1F90 0:0 0A 0:0 00:0 0 0 0 77",
            Listener(8080, "::1"),
        ),
        ("0: 00000000:1F90 00000000:0000 01 0:0 00:0 0 0 0 77", None),
    ],
)
def test_the_kernels_table(line, listener):
    """Addresses are words in the machine's order; only listening sockets count."""
    assert dict(health._parse([line])) == ({"77": listener} if listener else {})


@pytest.mark.slow
def test_misplaced_server_is_told_before_the_time_is_over(monkeypatch):
    """After a few looks that agree."""
    monkeypatch.setattr(health, "_LOOK", 0.01)
    port, wanted = free_port(), free_port()
    with server(port) as container:
        log = health.ContainerLog(container, lambda line: None)
        log.start()
        with pytest.raises(health.EndpointError, match=f"answers /ping on port {port}"):
            health.wait_until_healthy(container, wanted, 60, log)
    log.join()


def test_wait_that_is_given_up(monkeypatch):
    """At once."""
    given_up = threading.Event()
    given_up.set()
    port, wanted = free_port(), free_port()
    with server(port, status=404) as container:
        log = health.ContainerLog(container, lambda line: None)
        log.start()
        with pytest.raises(health.EndpointError, match="stopped before it was healthy"):
            health.wait_until_healthy(container, wanted, 60, log, given_up)
    log.join()


def test_what_cannot_be_seen_is_not_said_to_be_absent(monkeypatch):
    """Out of descriptors, or not allowed: nothing is claimed about where it listens."""

    def fail(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(health.Path, "read_text", fail)
    reach = Reach(1, has_own_network=True, address="127.0.0.1")
    assert health.describe_listeners(reach, 8080) == ""
    assert health.misplaced_listener(reach, 8080) is None
