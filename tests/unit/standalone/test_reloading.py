"""`byoc serve --reload`: the port stays, what serves behind it follows the files."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing, contextmanager

import pytest
from tests.support.waiting import wait_until

from sagemaker_byoc.host.ports import free_port
from sagemaker_byoc.standalone import reloading
from sagemaker_byoc.standalone.reloading import Changes, Relay

SECONDS = 20


@contextmanager
def answering(answer, accepted=None):
    """A server that reads to the end of each connection and sends `answer` and what it has read.

    `accepted` is a list that gets each connection.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                if accepted is not None:
                    accepted.append(connection)
                with connection:
                    got = b""
                    while data := connection.recv(65536):
                        got += data
                    connection.sendall(answer + got)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def ask(port, body=b"x"):
    with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
        client.sendall(body)
        client.shutdown(socket.SHUT_WR)
        got = b""
        while data := client.recv(65536):
            got += data
        return got


def test_bytes_pass_both_ways_and_so_does_their_end():
    """A megabyte, with the client's half of the connection closed before the answer begins."""
    body = os.urandom(1 << 20)
    port, accepted = free_port(), []
    with (
        answering(b"1:", accepted) as first,
        answering(b"2:") as second,
        Relay(port) as relay,
    ):
        relay.target = first
        assert ask(port, body) == b"1:" + body
        with socket.create_connection(("127.0.0.1", port), SECONDS) as begun:
            begun.sendall(b"before")
            wait_until(lambda: len(accepted) == 2, "the connection")
            relay.target = second
            assert ask(port) == b"2:x"
            begun.shutdown(socket.SHUT_WR)
            assert begun.recv(100) == b"1:before"


def test_nothing_serves():
    """The connection ends at once, and the relay goes on."""
    port = free_port()
    with Relay(port):
        for _ in range(2):
            assert ask(port, b"") == b""


def test_what_is_open_at_the_end_is_dropped():
    port = free_port()
    with answering(b"") as target:
        with Relay(port) as relay:
            relay.target = target
            held = socket.create_connection(("127.0.0.1", port), SECONDS)
            wait_until(lambda: relay._connections, "the connection")
        with closing(held):
            assert held.recv(1) == b""


def test_a_port_that_is_taken():
    with answering(b"") as port, pytest.raises(OSError, match="in use"), Relay(port):
        pass


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "sub").mkdir()
    return tmp_path


def test_changes_are_reported_once_they_have_settled(folder):
    """Written, added, removed; a file that is still being written is not."""
    seen = Changes([folder, folder / "absent.tar.gz"])
    assert seen.settled() == []
    (folder / "a.py").write_text("22")
    assert seen.settled() == []
    (folder / "sub/b.py").write_text("1")
    assert seen.settled() == []
    assert seen.settled() == [str(folder / "a.py"), str(folder / "sub/b.py")]
    assert seen.settled() == []
    (folder / "a.py").unlink()
    (folder / "absent.tar.gz").write_bytes(b"x")
    seen.settled()
    assert seen.settled() == [str(folder / "a.py"), str(folder / "absent.tar.gz")]


def test_what_is_undone_before_it_settles_is_no_change(folder):
    seen = Changes([folder])
    (folder / "new.py").write_text("")
    assert seen.settled() == []
    (folder / "new.py").unlink()
    assert seen.settled() == []
    assert seen.settled() == []


@pytest.mark.parametrize("name", ["__pycache__/a.cpython-311.pyc", "a.pyc", ".a.py.swp", "a.py~"])
def test_what_nobody_has_saved(folder, name):
    seen = Changes([folder])
    (folder / name).write_text("x")
    assert [seen.settled(), seen.settled()] == [[], []]


def test_the_number_of_files_is_bounded(folder, monkeypatch):
    monkeypatch.setattr(reloading, "MOST", 2)
    for name in "bcd":
        (folder / f"{name}.py").write_text("")
    assert len(Changes([folder])._look()) == 2


HANDLER = """
def model_fn(folder): return 1
def predict_fn(data, model): return ["{}"]
"""


@pytest.mark.slow
def test_each_save_is_served_and_no_request_is_lost(tmp_path):
    """Also while a file that can't be imported is saved, and from the very start."""
    program, model = tmp_path / "program", tmp_path / "model"
    program.mkdir()
    model.mkdir()
    handler = program / "inference.py"
    handler.write_text("def (:")
    command = [sys.executable, "-m", "sagemaker_byoc.cli", "serve", str(program), "--reload"]
    process = subprocess.Popen(
        [*command, "--model", str(model), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    said, answers, ended = [], [], threading.Event()
    reader = threading.Thread(target=lambda: said.extend(process.stderr))
    reader.start()
    try:
        wait_until(lambda: any("nothing serves; waiting" in line for line in said), "the first")
        handler.write_text(HANDLER.format("one"))
        port = int(process.stdout.readline().rpartition(":")[2])

        def go():
            while not ended.is_set():
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
                with closing(connection):
                    connection.request(
                        "POST", "/invocations", "[1]", {"Content-Type": "application/json"}
                    )
                    answers.append(connection.getresponse().read())

        client = threading.Thread(target=go)
        client.start()
        wait_until(lambda: b'["one"]' in answers, "one")
        handler.write_text("def (:  # again")
        wait_until(lambda: any("still serves" in line for line in said), "the refusal")
        handler.write_text(HANDLER.format("three"))
        wait_until(lambda: b'["three"]' in answers, "three")
        ended.set()
        client.join()
        assert {*answers} == {b'["one"]', b'["three"]'}
        assert any("SyntaxError" in line for line in said if line.startswith("error[ENDPOINT]"))
    finally:
        ended.set()
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        reader.join()
        process.stdout.close()
        process.stderr.close()
    assert process.returncode == 0
    assert "Traceback" not in "".join(line for line in said if not line.startswith("serve | "))
