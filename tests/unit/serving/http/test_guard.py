"""What user code raises, returns or does to its process: one typed answer, and the same worker."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from tests.fuzz.answers import LOST, SESSION, Odd, judge
from tests.unit.serving.harness import is_alive, wait_until
from tests.zoo.models.odd.oddities import ACTS, DEATHS, RAISES, VALUES

pytestmark = pytest.mark.slow  # real processes
EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """One running server for each kind that is asked for."""
    found = {}

    def get(kind="stages"):
        if kind not in found:
            found[kind] = Odd(tmp_path_factory.mktemp(kind), kind).__enter__().wait_ready()
        return found[kind]

    yield get
    for server in found.values():
        server.__exit__()


@pytest.fixture
def server(servers):
    """And the worker that answered before answers after."""
    return kept(servers())


def kept(server):
    server.pid = server.worker()
    return server


def still(server):
    return server.worker() == server.pid


def error_of(reply):
    assert judge(reply) == ""
    return json.loads(reply.body)["error"]


# ── raised ──


@pytest.mark.parametrize("name", RAISES)
def test_raised(server, name):
    """500 of the usual shape, 507 for memory, 400 for a Refusal; bounded lines in the log."""
    before = len(server.log)
    reply = server.ask("predict", {"raise": name})
    assert judge(reply, fails=True) == ""
    expected = {"memory": 507, "memory_real": 507, "refusal": 400, "named": 404}
    assert reply.status == expected.get(name, 500)
    assert still(server)
    said = server.log[before:]
    assert len(said) < 40_000
    assert said.count(" failed: ") == (0 if reply.status < 500 else 1)


@pytest.mark.parametrize("name", ["str", "surrogate", "own", "keyboard", "str_huge", "metaclass"])
@pytest.mark.parametrize("place", ["input", "output", "chat", "adapter", "app", "talk"])
def test_raised_anywhere(server, place, name):
    """The same wherever user code runs."""
    reply = server.ask(place, {"raise": name})
    if place == "talk":
        assert reply.status == 1011
    else:
        assert judge(reply, fails=True) == ""
        assert reply.status == (424 if place == "adapter" else 500)
    assert still(server)


@pytest.mark.parametrize("kind", ["transform", "batch", "default", "async"])
@pytest.mark.parametrize("name", ["str", "surrogate", "own", "generator_exit", "lying"])
def test_raised_in_other_handlers(servers, kind, name):
    server = kept(servers(kind))
    assert judge(server.ask("predict", {"raise": name}), fails=True) == ""
    assert still(server)


START, BODY = "http.response.start", "http.response.body"
GOOD = {"type": START, "status": 200}


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([GOOD, {"type": BODY}], 200),
        ([GOOD, {"type": BODY}, GOOD, {"type": BODY, "body": 5}], 200),  # after the answer
        ([], 500),
        ([{"type": BODY}], 500),
        ([GOOD, GOOD], 500),
        ([GOOD], 500),
        ([GOOD, {"type": BODY, "body": 5}], 500),
        ([GOOD, {"type": BODY, "body": "text"}], 500),
        ([GOOD, {"type": "http.odd"}], 500),
        ([{"type": START}], 500),
        ([{"type": START, "status": 700}, {"type": BODY}], 500),
        ([{"type": START, "status": "x"}, {"type": BODY}], 500),
        ([GOOD | {"headers": [["a", "b"]]}, {"type": BODY}], 500),
        ([{}], 500),
        ([5], 500),
    ],
    ids=json.dumps,
)
def test_asgi_messages(servers, messages, status):
    """What is not the protocol's is an error, and never a body."""
    server = kept(servers("async"))
    reply = server.ask("messages", {"plain": messages})
    assert (reply.status, judge(reply)) == (status, "")
    assert reply.body == b"" if status == 200 else error_of(reply)["code"] == "ModelError"
    assert still(server)


@pytest.mark.parametrize(
    "pair",
    [["a b", "x"], ["X-A\r\nX-Evil", "x"], ["X-A", "x\r\ny"], ["X-A", "x" * 20_000], [5, 5], 5],
)
def test_headers_of_an_application(server, pair):
    """Only what HTTP can carry."""
    reply = server.ask("pairs", {"plain": [pair]})
    assert (reply.status, error_of(reply)["code"]) == (500, "ModelError")
    assert still(server)


def test_body_of_an_application(server):
    """Bytes, also where it is a stream."""
    for spec in ({"list": [{"plain": 5}]}, {"items": [{"plain": 5}]}, {"items": [{"plain": "a"}]}):
        assert error_of(server.ask("body", spec))["message"].startswith("TypeError: ")
    assert still(server)


@pytest.mark.parametrize("kind", ["default", "transform"])
@pytest.mark.parametrize("name", ["str", "surrogate", "own", "generator_exit", "stop", "exit"])
def test_raised_by_a_stream(servers, kind, name):
    """At the first item an ordinary error; later a cut, after an event with the error."""
    server = kept(servers(kind))
    failing = {"raise": name}
    assert judge(server.ask("predict", {"items": [failing]}, **EVENTS), fails=True) == ""
    with pytest.raises(http.client.IncompleteRead) as cut:
        server.ask("predict", {"items": [{"plain": "a"}, failing]}, **EVENTS)
    first, event, _ = cut.value.partial.decode().split("\n\n")
    assert first == "data: a"
    assert event.startswith("event: error\ndata: {")
    assert still(server)


@pytest.mark.parametrize("name", ["own", "str", "surrogate", "exit"])
@pytest.mark.parametrize("place", ["predict", "chat", "talk"])
def test_raised_at_a_streams_end(servers, place, name):
    """A generator that fails after its last item has failed."""
    server = kept(servers("default"))
    spec = {"items": [{"plain": "a"}], "close": {"raise": name}}
    if place == "talk":
        reply = server.ask(place, spec)
        assert (reply.status, reply.body) == (1011, b"a")
    else:
        with pytest.raises(http.client.IncompleteRead) as cut:
            server.ask(place, spec, **({"stream": True} if place == "chat" else {}))
        assert b"a" in cut.value.partial
    assert still(server)


def test_raised_by_close(servers):
    """By then all items have been sent: the log has it, the caller a whole reply."""
    server = kept(servers("default"))
    reply = server.ask("predict", {"value": "closing"})
    assert (reply.status, reply.body) == (200, b"itemitem")
    wait_until(lambda: "failed: Own: close" in server.log)
    assert still(server)


def test_empty_items_begin_no_reply(servers):
    """Nothing has been sent before the error, so that it can be an ordinary one."""
    reply = servers("default").ask("predict", {"items": [{"plain": ""}, {"raise": "own"}]})
    assert error_of(reply)["message"] == "Own: own"


def test_lines_of_an_event(servers):
    """CR ends a line of an event stream as LF does."""
    server = servers("default")
    reply = server.ask("predict", {"items": [{"value": "lines"}]}, **EVENTS)
    assert reply.text == "data: a\ndata: b\ndata: c\ndata: d\n\n"


def test_report(server):
    """The log has the traceback from the user's function on, and what led to the error."""
    server.ask("predict", {"raise": "ring"})
    wait_until(lambda: "ValueError: two" in server.log)
    report = server.log[server.log.rindex(" failed: ValueError: one") :]
    assert report.index("ValueError: two") < report.index("During handling of the above")
    assert "inference.py" in report
    assert "serving/worker/" not in report


# ── returned ──


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize(("kind", "place"), [("default", "predict"), ("stages", "output")])
def test_returned(servers, kind, place, name):
    """Written, or a typed error; never something else."""
    server = kept(servers(kind))
    try:
        reply = server.ask(place, {"value": name})
    except http.client.IncompleteRead:
        assert name in {"zip", "map", "file", "stubborn", "closing"}
    else:
        assert judge(reply, is_json=kind == "default") == ""
    assert still(server)


@pytest.mark.parametrize("name", ["text_subclass", "bytes_subclass", "broken_all", "surrogate"])
@pytest.mark.parametrize("place", ["chat", "talk", "body", "status", "pairs", "redact", "input"])
def test_returned_anywhere(server, place, name):
    reply = server.ask(place, {"value": name})
    assert reply.status in {200, 500, 1000, 1011}
    assert still(server)


def test_subclasses_are_what_they_hold(servers):
    """A subclass of str or bytes that says another length and text."""
    server = servers("stages")
    assert server.ask("output", {"value": "bytes_subclass"}).body == b"bytes"
    assert server.ask("talk", {"items": [{"value": "text_subclass"}]}).body == b"text"
    assert server.ask("talk", {"items": [{"value": "bytes_subclass"}]}).body == b"bytes"


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Own": {"value": "none"}},
        {"X-Own": {"value": "surrogate"}},
        {"X-Own": {"value": "lines"}},
        {"X-Own": {"value": "large"}},
        {"a b": {"plain": "x"}},
        {"Content-Length": {"plain": "1"}},
        {f"X-{number}": {"plain": "x" * 9000} for number in range(9)},
    ],
)
def test_headers(server, headers):
    """The dict is the handler's to fill; what HTTP or the link can't carry is an error by name."""
    reply = server.ask({"predict": {"plain": 1}, "headers": headers}, None)
    error = error_of(reply)
    assert (reply.status, error["code"]) == (500, "ModelError")
    assert "header" in error["message"]
    assert still(server)


@pytest.mark.parametrize("name", ["session", "deadline", "headers", "request_id", "reply_headers"])
def test_context_is_theirs(server, name):
    """Whatever a handler puts into its context, our own account of the request stays."""
    spec = {"predict": {"raise": "value"}, "context": {name: {"value": "broken_all"}}}
    assert error_of(server.ask(spec, None))["message"] == "ValueError: plain"
    spec["predict"] = {"plain": 1}
    assert judge(server.ask(spec, None)) == ""
    assert still(server)


def test_session(server):
    """What a session holds is the handler's; the session is ours."""
    document = {"predict": {"plain": 1}, "session": {"value": "broken_all"}}
    reply = server.ask(document, None, **{SESSION: "NEW_SESSION"})
    session = reply.headers["X-Amzn-SageMaker-New-Session-Id"].partition(";")[0]
    closed = server.ask({"predict": {"plain": 2}, "close": True}, None, **{SESSION: session})
    assert closed.headers["X-Amzn-SageMaker-Closed-Session-Id"] == session
    assert still(server)


def test_many_errors_at_once(servers):
    """The replies of a batch may be more than one packet of the link can hold: 4 KB each."""
    server = kept(servers("batch"))
    with ThreadPoolExecutor(40) as pool:
        asked = [pool.submit(server.ask, "predict", {"raise": "str_wide"}) for _ in range(40)]
        assert [judge(entry.result(), fails=True) for entry in asked] == [""] * 40
    assert still(server)


# ── done to the process ──


@pytest.mark.parametrize("name", sorted(set(ACTS) - LOST))
@pytest.mark.parametrize("place", ["predict", "talk"])
def test_done(server, place, name):
    """The request is answered, and so are the next ones, by the same process."""
    spec = {"do": name, "then": {"list": [{"plain": "done"}]}}
    reply = server.ask(place, spec)
    if place == "predict":
        answers = {(200, b'["done"]')}
        if name in {"late_signal", "interrupt", "trace"}:
            answers.add((500, reply.body))  # raised in the handler itself
        assert (reply.status, reply.body) in answers
    assert judge(server.ask("predict", {"raise": "surrogate"}), fails=True) == ""
    assert still(server)


@pytest.mark.parametrize("name", sorted(set(ACTS) - LOST))
@pytest.mark.parametrize("place", ["predict", "app"])
def test_done_by_a_coroutine(servers, place, name):
    """On another thread, which the next coroutines need."""
    server = kept(servers("async"))
    reply = server.ask(place, {"do": name})
    assert judge(reply) == ""
    if reply.status != 200:  # signals are the main thread's alone
        assert name in {"late_signal", "term_ignored", "interrupt", "trace"}
    assert judge(server.ask("predict", {"raise": "surrogate"}), fails=True) == ""
    assert server.ask(place, {"plain": 5}).status == 200
    assert still(server)


@pytest.mark.parametrize(
    ("kind", "acts"),
    [
        ("default", {"predict": "close_descriptors", "talk": "close_everything"}),
        ("async", {"predict": "close_everything", "app": "close_descriptors"}),
    ],
)
def test_closed_link(tmp_path, kind, acts):
    """A handler that closes our descriptors ends its worker; nothing of it is left."""
    assert set(acts.values()) == LOST
    with Odd(tmp_path, kind) as server:
        kept(server.wait_ready())
        front, (http,) = server.front()
        del front

        def count():
            names = []
            for entry in Path(f"/proc/{http}/fd").iterdir():
                with suppress(FileNotFoundError):  # closed meanwhile
                    names.append(entry.readlink().name)
            return len([name for name in names if not name.endswith(".open")])  # of the capture

        before = count()
        for place, name in acts.items():
            reply = server.ask(place, {"do": name})
            assert reply.status == 1011 or error_of_death(reply) == "ModelWorkerDied"
            wait_until(lambda: server.ping().status == 200)
            assert not still(server)
        assert "closed descriptors that are not its own" in server.log
        wait_until(lambda: count() <= before)


@pytest.mark.parametrize("name", DEATHS)
def test_death(tmp_path, name):
    """The request is answered, and another worker follows."""
    with Odd(tmp_path) as server:
        kept(server.wait_ready())
        reply = server.ask("predict", {"do": name})
        assert error_of_death(reply) == "ModelWorkerDied"
        wait_until(lambda: server.ping().status == 200)
        assert server.worker() != server.pid


def error_of_death(reply):
    return json.loads(reply.body)["error"]["code"]


# ── the end ──


def test_end_waits_for_no_thread(tmp_path):
    """A thread that a handler has left, SIGTERM that it ignores: the server ends soon."""
    with Odd(tmp_path) as server:
        server.wait_ready()
        server.ask("predict", {"do": "thread", "then": {"do": "term_ignored"}})
        server.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0


@pytest.mark.parametrize(
    "spec",
    [
        *({"raise": name} for name in ("own", "keyboard", "str", "str_huge", "surrogate", "exit")),
        {"do": "thread", "then": {"raise": "value"}},
        {"do": "exit"},
        {"do": "close_descriptors"},
        {"do": "stdout_none", "then": {"raise": "recursion"}},
    ],
    ids=json.dumps,
)
def test_load(tmp_path, spec):
    """A model that can't be loaded ends the server soon; the cause is last, and bounded."""
    with Odd(tmp_path, ODD_LOAD=json.dumps(spec)) as server:
        assert server.process.wait(20) == 1
    lines = server.log.rstrip().splitlines()
    assert len(server.log) < 40_000
    causes = [line for line in lines if line.startswith("byoc: error: slot 0: loading failed: ")]
    assert len(causes) == (0 if spec == {"do": "exit"} else 1)
    assert re.search(
        "the model can't be loaded: the worker of slot 0 exited", "\n".join(lines[-4:])
    )


def test_load_ends_its_threads(tmp_path):
    """None of them outlives the server."""
    spec = {"do": "thread", "then": {"raise": "value"}}
    with Odd(tmp_path, ODD_LOAD=json.dumps(spec)) as server:
        try:
            server.process.wait(20)
        except subprocess.TimeoutExpired:
            pytest.fail("it waits for the thread")
        assert not is_alive(server.process.pid)
