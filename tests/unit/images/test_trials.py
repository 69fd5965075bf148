"""What a trial puts into a container, and how long a server may keep it."""

from __future__ import annotations

import io
import socket
import tarfile
import threading
from contextlib import contextmanager

import pytest
from tests.unit.images.engine import make_engine

from sagemaker_byoc.images.trials import container, http

BLOCKED = 'Error processing tar file: cannot overwrite non-directory "{}" with directory "/"'


def names(files, links):
    with tarfile.open(fileobj=io.BytesIO(container.pack(files, links))) as archive:
        return sorted(archive.getnames())


def test_files_go_where_the_images_links_lead(tmp_path):
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "data").write_text("x")
    files = {"/opt/ml": tmp_path, "/opt/ml/model/": b"", "/opt/mlx": b""}
    assert names(files, {}) == [
        "opt/ml", "opt/ml/input", "opt/ml/input/data", "opt/ml/model", "opt/mlx",
    ]  # fmt: skip
    links = {"/opt/ml": "/data", "/data/input": "/far"}
    assert names(files, links) == ["data", "data/model", "far", "far/data", "opt/mlx"]


def test_a_file_in_the_way_of_the_input_is_what_refuses_the_start(tmp_path, monkeypatch):
    engine = make_engine(tmp_path, monkeypatch, {}, Entrypoint=["/x"])
    engine.fails("cp", BLOCKED.format("/opt/ml"))
    with pytest.raises(container.docker.DockerError):  # it can't be looked at either
        container.Container("any", {"/opt/ml/model/": b""}).start()
    monkeypatch.setattr(container.Container, "_target", lambda *_: "")
    refused = container.Container("any", {"/opt/ml/model/": b""}).start()
    assert "cannot overwrite" in refused
    assert not engine.calls("start")


def test_links_that_lead_in_a_circle_end(tmp_path, monkeypatch):
    engine = make_engine(tmp_path, monkeypatch, {}, Entrypoint=["/x"])
    engine.fails("cp", BLOCKED.format("/opt/ml"))
    monkeypatch.setattr(container.Container, "_target", lambda *_: "/opt/ml")
    assert "cannot overwrite" in container.Container("any", {"/opt/ml/model/": b""}).start()


@contextmanager
def server(*answers):
    """A server that sends one piece of its answer after another; None ends the connection."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            link, _ = listening.accept()
            with link:
                for piece in answers:
                    if over.wait(0.05) or piece is None:
                        return
                    link.sendall(piece)
                over.wait(60)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize(
    "answers",
    [
        (),
        (b"HTTP/1.1 200 OK\r\n", *[b"x: y\r\n"] * 200),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n", *[b"x"] * 200),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n"] * 200),
    ],
)
def test_an_answer_that_never_ends_ends_with_the_patience(answers):
    """Each of its pieces comes in time; together they would take ten seconds."""
    with server(*answers) as port:
        reply = http.send(port, "POST", "/invocations", body=b"{}", patience=0.2)
    assert reply.status == 0
    assert reply.error
    assert reply.seconds < 5


def test_a_server_that_reads_nothing_ends_the_announcement():
    with server() as port:
        reply = http.announce(port, "/invocations", {}, 200 << 20, 24 << 20, patience=0.2)
    assert reply.status == 0


def test_a_server_that_hangs_up_has_said_so():
    """A connection that ends is not one on which the server waits for more."""
    with server(None) as port:
        reply = http.announce(port, "/invocations", {}, 200 << 20, 1000)
    assert (reply.status, bool(reply.error)) == (0, True)
