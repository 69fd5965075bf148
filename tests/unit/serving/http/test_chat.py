"""/v1/chat/completions, as OpenAI's clients use it; and the warning of a batch job's row check."""

from __future__ import annotations

import http.client
import json

import pytest
from tests.unit.serving.harness import Server

pytestmark = pytest.mark.slow  # real processes
ROUTE = "/v1/chat/completions"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("chat"), "chat") as found:
        yield found.wait_ready()


def ask(server, text, **more):
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **more})
    return server.request("POST", ROUTE, body, {"Content-Type": "application/json"})


def events(reply):
    assert reply.headers["Content-Type"] == "text/event-stream"
    return [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]


def test_text(server):
    """Becomes a completion with one choice."""
    found = json.loads(ask(server, "hello").body)
    assert (found["object"], found["model"]) == ("chat.completion", "m")
    (choice,) = found["choices"]
    assert choice["message"] == {"role": "assistant", "content": "HELLO"}


def test_dict(server):
    """Goes back as it is."""
    reply = ask(server, "dict")
    assert json.loads(reply.body)["object"] == "mine"
    assert reply.headers["Content-Type"] == "application/json"


def test_stream(server):
    """Chunks of one choice, its end, and the mark that clients wait for."""
    *chunks, done = events(ask(server, "a b c", stream=True))
    assert done == "[DONE]"
    found = [json.loads(chunk)["choices"][0] for chunk in chunks]
    assert found[0]["delta"] == {"role": "assistant", "content": "a"}
    assert [choice["delta"].get("content") for choice in found] == ["a", "b", "c", None]
    assert [choice["finish_reason"] for choice in found] == [None, None, None, "stop"]


def test_chunks_of_handler(server):
    """Dicts that the handler yields are not touched."""
    assert events(ask(server, "chunks", stream=True)) == ['{"n":1}', '{"n":2}', "[DONE]"]


@pytest.mark.parametrize("stream", [False, True])
def test_failure(server, stream):
    """Before the first chunk an error is an error."""
    assert ask(server, "fail", stream=stream).status == 500


def test_late_failure(server):
    """After it: an event with the error, no [DONE], and a cut."""
    with pytest.raises(http.client.IncompleteRead) as cut:
        ask(server, "late", stream=True)
    assert b"event: error" in cut.value.partial
    assert b"[DONE]" not in cut.value.partial


@pytest.mark.parametrize("text", ["number", "chunks"])
def test_wrong_type(server, text):
    """Values that cannot answer such a request."""
    reply = ask(server, text)
    assert (reply.status, "TypeError: chat_fn" in reply.text) == (500, True)


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", b'{"messages": "hello"}'])
def test_bad_request(server, body):
    """Bodies that no client of that route sends."""
    assert server.request("POST", ROUTE, body).status == 400


def test_other_methods(server):
    """Only POST."""
    assert server.request("GET", ROUTE).status == 404


def test_no_handler(tmp_path):
    """Without chat_fn there is no such route."""
    with Server(tmp_path, "echo") as server:
        server.wait_ready()
        assert ask(server, "hello").status == 404


def test_rows(tmp_path):
    """A batch job whose replies lose rows gets one warning; one that keeps them gets none."""
    code = tmp_path / "model" / "code"
    code.mkdir(parents=True)
    (code / "inference.py").write_text(
        "def model_fn(d): return 1\n"
        "def predict_fn(data, model): return data[:1] if len(data) == 3 else data\n"
    )
    with Server(tmp_path, SAGEMAKER_BATCH="true") as server:
        server.wait_ready()

        def send(text, accept="text/csv", kind="text/csv"):
            assert server.invoke(text.encode(), kind, Accept=accept).status == 200

        send("1,2\n3,4\n")
        send("a,b\n1,2\n3,4\n", kind="text/csv; header=present")
        send("1,2\n3,4\n5,6\n", accept="application/json")
        assert "rows and its reply" not in server.log
        send("1,2\n3,4\n5,6\n")
        send("1,2\n3,4\n5,6\n")
        assert server.log.count("has 3 rows and its reply 1") == 1
