"""`byoc invoke`: the body, what is sent, and how the answer and each failure are shown."""

from __future__ import annotations

import io
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType

import pytest

from sagemaker_byoc.cli import content_type
from sagemaker_byoc.cli.main import main
from sagemaker_byoc.region.services.sagemaker_runtime import eventstream


class Server(ThreadingHTTPServer):
    """Answers as it is told, and keeps what it was sent."""

    daemon_threads = True
    status = 200
    headers = MappingProxyType({"Content-Type": "application/json"})
    pieces = (b'{"a": 1}',)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")
        self.close_connection = True

    def do_POST(self):
        self.server.path = self.path
        self.server.sent = dict(self.headers)
        self.server.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.server.status)
        for name, value in {**self.server.headers, "Transfer-Encoding": "chunked"}.items():
            self.send_header(name, value)
        self.end_headers()
        for piece in self.server.pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def stdin(monkeypatch):
    def give(data, *, terminal=False):
        file = io.TextIOWrapper(io.BytesIO(data))
        file.isatty = lambda: terminal
        monkeypatch.setattr(sys, "stdin", file)

    return give


def test_a_served_model_is_asked_at_its_url(server, tmp_path, capfdbinary):
    """/invocations, with the members as headers, and the answer's bytes as they are."""
    server.pieces = (b"\x00\xff", b"\x1b[2J")
    rows = tmp_path / "rows.csv"
    rows.write_bytes(b"1,2\n")
    asked = ["invoke", server.url, str(rows), "--accept", "x/y", "--target-model", "m"]
    assert main(asked) == 0
    assert capfdbinary.readouterr().out == b"\x00\xff\x1b[2J"
    assert (server.path, server.body) == ("/invocations", b"1,2\n")
    assert server.sent["Content-Type"] == "text/csv"
    assert server.sent["Accept"] == "x/y"
    assert server.sent["X-Amzn-SageMaker-Target-Model"] == "m"
    assert main(["invoke", f"{server.url}/other?a=b", "--data", "[1]"]) == 0
    assert (server.path, server.body) == ("/other?a=b", b"[1]")
    assert main(["invoke", server.url.removeprefix("http://"), "--data", "[2]"]) == 0
    assert (server.path, server.body) == ("/invocations", b"[2]")


def test_an_endpoint_is_asked_through_the_region(server, stdin, capfd):
    """Signed, with the members by AWS's names; the body from stdin."""
    stdin(b'{"x": 1}')
    asked = ["invoke", "my-endpoint", "--url", server.url, "--target-variant", "v"]
    assert main(asked) == 0
    assert capfd.readouterr().out == '{"a": 1}'
    assert (server.path, server.body) == ("/endpoints/my-endpoint/invocations", b'{"x": 1}')
    assert server.sent["Authorization"].startswith("AWS4-HMAC-SHA256")
    assert server.sent["Content-Type"] == "application/json"
    assert server.sent["X-Amzn-SageMaker-Target-Variant"] == "v"


def test_a_stream_of_an_endpoint_is_shown_as_its_bytes(server, capfd):
    server.headers = {"Content-Type": "application/vnd.amazon.eventstream"}
    server.pieces = tuple(eventstream.part(part) for part in (b"one ", b"two"))
    assert main(["invoke", "e", "--url", server.url, "--stream", "--data", "x"]) == 0
    assert capfd.readouterr().out == "one two"
    assert server.path == "/endpoints/e/invocations-response-stream"
    refused = ["invoke", "e", "--url", server.url, "--stream", "--data", "x", "--target-model", "m"]
    assert main(refused) == 2


def test_the_models_own_error(server, capfd):
    """Its status, its words without what steers a terminal, and where its log is; exit 1."""
    server.status = 424
    server.headers = {"Content-Type": "application/json", "x-amzn-ErrorType": "ModelError"}
    said = {"OriginalStatusCode": 500, "OriginalMessage": "no\x1b[2J weights"}
    said |= {"Message": "Received…", "LogStreamArn": "arn:aws:logs:x"}
    server.pieces = (json.dumps(said).encode(),)
    assert main(["invoke", "e", "--url", server.url, "--data", "x"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert "error[MODEL]: endpoint e: the model answered 500: no weights" in err
    assert "arn:aws:logs:x" in err
    assert "byoc logs e" in err
    server.status = 503
    assert main(["invoke", server.url, "--data", "x"]) == 1
    assert "answered 503" in capfd.readouterr().err


def test_an_unknown_endpoint_is_refused_with_awss_words(server, capfd):
    server.status = 400
    server.headers = {"x-amzn-ErrorType": "ValidationError"}
    server.pieces = (b'{"Message": "Endpoint e of account 0 not found."}',)
    assert main(["invoke", "e", "--url", server.url, "--data", "x"]) == 2
    assert "Endpoint e of account 0 not found." in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["http://127.0.0.1:1", "--data", "x"], 3, "no whole answer"),
        (["localhost:1", "--data", "x"], 3, "no whole answer from http://localhost:1"),
        (
            ["e", "--state", "/nonexistent", "--data", "x"],
            3,
            "or name another --state or --url; ask a model that `byoc serve` serves by its URL",
        ),
        (["http://", "--data", "x"], 2, "is not an http URL"),
        (["ftp://x", "--data", "x"], 2, "is not an http URL"),
        (["http://x", "/nonexistent"], 2, "/nonexistent"),
        (["http://x", "--data", "x" * (25 * 2**20 + 1)], 2, "26,214,400 bytes"),
        (["e", "--data", "x" * 6_291_457], 2, "6,291,456 bytes"),
        (["http://x"], 2, "there is no body"),
        (["http://x", "-", "--data", "x"], 2, "FILE and --data"),
    ],
)
def test_what_cannot_be_sent(words, code, text, capfd, stdin):
    stdin(b"", terminal=True)
    assert main(["invoke", *words]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert text in err
    assert "fix: " in err


def test_a_header_with_a_line_break_is_refused(server, capfd):
    assert main(["invoke", server.url, "--data", "x", "--accept", "a\nb: c"]) == 2
    assert "Invalid header value" in capfd.readouterr().err


class Terminal(io.TextIOWrapper):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("kind", "pieces", "shown"),
    [
        ("text/event-stream", (b"caf\xc3", b"\xa9\x1b]0;t\x07"), "café\n"),
        ("application/json", (b"[1]\n",), "[1]\n"),
        ("application/x-npy", (b"\x93NUMPY",), ""),
    ],
)
def test_on_a_terminal(server, monkeypatch, kind, pieces, shown):
    """Text is neutralized; binary is refused, and shown nothing of."""
    server.headers, server.pieces = {"Content-Type": kind}, pieces
    terminal = Terminal(io.BytesIO(), encoding="utf-8", write_through=True)
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(["invoke", server.url, "--data", "x"]) == (0 if shown else 2)
    assert terminal.buffer.getvalue().decode() == shown


def test_output_takes_what_a_terminal_does_not(server, tmp_path, capfd):
    server.headers, server.pieces = {"Content-Type": "image/png"}, (b"\x89", b"PNG")
    answer = tmp_path / "answer.png"
    assert main(["invoke", server.url, "--data", "x", "--output", str(answer)]) == 0
    assert answer.read_bytes() == b"\x89PNG"
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "body", "kind"),
    [
        ("a.csv", b"{}", "text/csv"),
        ("a.JPG", b"", "image/jpeg"),
        ("a.npz", b"PK", "application/x-npz"),
        ("", b' {"a": [1]}\n', "application/json"),
        ("", b"[" * 100_000, "application/json"),
        ("", b"5.1", "application/json"),
        ("", b'{"a": 1}\n{"a": 2}\n', "application/jsonlines"),
        ("", b"5.1,3.5,1.4", "text/csv"),
        ("", b"1\n2\n", "text/csv"),
        ("", b"a,b\nx,y\n", "text/csv"),
        ("", b"Hello, world", "text/plain"),
        ("", b"", "text/plain"),
        ("", b"\x93NUMPY\x01", "application/x-npy"),
        ("", b"\x89PNG\r\n\x1a\n", "image/png"),
        ("", b"RIFF....WEBP", "image/webp"),
        ("", b"\xff\x00", "application/octet-stream"),
        ("", b"a\x00", "application/octet-stream"),
    ],
)
def test_the_content_type_is_guessed(name, body, kind):
    assert content_type.guess(name, body) == kind


def test_several_files_are_several_requests(server, tmp_path, capfd):
    """Each with its own content type, an answer a line; a refusal names the file."""
    (tmp_path / "a.csv").write_text("1")
    (tmp_path / "b.json").write_text("[1]")
    names = [str(tmp_path / name) for name in ("a.csv", "b.json")]
    assert main(["invoke", server.url, *names]) == 0
    assert capfd.readouterr().out == '{"a": 1}\n{"a": 1}\n'
    assert server.sent["Content-Type"] == "application/json"
    server.status = 400
    assert main(["invoke", server.url, *names]) == 1
    assert f"error[MODEL]: {names[0]}: {server.url} answered 400" in capfd.readouterr().err
    assert main(["invoke", server.url, *names, "--output", "x"]) == 2
    assert "--output takes one answer, and there are 2 files" in capfd.readouterr().err
