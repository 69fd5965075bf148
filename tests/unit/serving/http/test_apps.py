"""Applications of the user's that bring their own /invocations, over HTTP."""

from __future__ import annotations

import json
import shutil

import pytest
from tests.unit.serving.harness import ZOO, Server, wait_until

pytestmark = pytest.mark.slow
CSV = "text/csv"


@pytest.fixture(scope="module")
def flask_app(tmp_path_factory):
    """Started without its model, so that its own /ping fails at first."""
    root = tmp_path_factory.mktemp("flask")
    shutil.copytree(ZOO / "flask_app", root / "program")
    capture = root / "capture"
    with Server(root, BYOC_CAPTURE=str(capture), BYOC_CAPTURE_SECONDS="1") as server:
        wait_until(lambda: "its /ping answers 404" in server.log or server.has_ended())
        assert server.ping().status == 503
        (root / "model" / "factor").write_text("2")
        yield server.wait_ready()


def test_flask_answers(flask_app):
    """Its reply as it is: body, type, and both headers of one name."""
    reply = flask_app.invoke(b"1 2", CSV)
    assert (reply.status, reply.text) == (200, "2.0\n4.0\n")
    assert reply.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert [text[:3] for text in reply.headers.get_all("Set-Cookie")] == ["a=1", "b=2"]


@pytest.mark.parametrize(
    ("body", "content_type", "status", "part"),
    [
        (b"1", "application/json", 415, "only supports CSV"),
        (b"refuse", CSV, 422, "no such row"),
        (b"fail", CSV, 500, "Internal Server Error"),
    ],
)
def test_flask_refuses(flask_app, body, content_type, status, part):
    """With its own words."""
    reply = flask_app.invoke(body, content_type)
    assert (reply.status, part in reply.text) == (status, True)


def test_flask_routes(flask_app):
    """The query string arrives; a reply without a length is streamed; other routes and methods."""
    reply = flask_app.request("POST", "/invocations?stream=1", b"", {"Content-Type": CSV})
    assert (reply.text, reply.headers["Transfer-Encoding"]) == ("0\n1\n2\n", "chunked")
    assert json.loads(flask_app.request("GET", "/about").text) == {"factor": 2.0}
    assert flask_app.request("GET", "/invocations").status == 405
    assert flask_app.request("GET", "/metrics").status == 200


def test_flask_is_said_and_captured(flask_app):
    """One line says who answers what; its traffic is captured like any other."""
    assert "program/wsgi.py answers /invocations; its /ping: the server answers" in flask_app.log
    flask_app.invoke(b"21", CSV)
    folder = flask_app.root / "capture"
    wait_until(lambda: any("42.0" in path.read_text() for path in folder.rglob("*.jsonl")))


def test_asgi(tmp_path):
    """Its lifespan has run; replies whole and streamed; errors and sys.exit are answers."""
    shutil.copytree(ZOO / "asgi_app", tmp_path / "program")
    with Server(tmp_path) as server:
        server.wait_ready()
        assert json.loads(server.invoke(b"[1, 2]").text) == [3, 6]
        reply = server.request("POST", "/invocations?stream", b"")
        assert (reply.status, reply.text) == (206, "0\n1\n2\n")
        for query in ("fail", "exit"):
            reply = server.request("POST", f"/invocations?{query}", b"")
            assert (reply.status, json.loads(reply.text)["error"]["code"]) == (500, "ModelError")
        assert server.request("GET", "/elsewhere").text == "no such route"
        assert server.invoke(b"[2]").text == "[6]"
        assert "restart" not in server.log
