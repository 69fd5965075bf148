"""Exceptions of user code as bounded text, without a server around them."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading

import pytest
from tests.zoo.models.odd import oddities

from sagemaker_byoc.serving import error_replies, log
from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.error_replies import BadInput
from sagemaker_byoc.serving.link import Frame, Kind, Link, LinkError
from sagemaker_byoc.serving.supervisor import processes
from sagemaker_byoc.serving.worker import streams
from sagemaker_byoc.serving.worker.code import apps, guard
from sagemaker_byoc.serving.worker.jobs import Job
from sagemaker_byoc.serving.worker.request_context import Context

# From errors whose __del__ raises.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
META = {"request_id": "r-1", "headers": {"x-amzn-sagemaker-inference-id": "i-1"}}


def job():
    return Job(Frame(Kind.REQUEST, 7, META), Context("/m", "cpu", 0))


@pytest.mark.parametrize("name", oddities.RAISES)
def test_any_exception(name):
    """UTF-8, and no longer than the limits, whatever its class does."""
    failure = guard.attempt(oddities.RAISES[name])
    assert failure is not None
    for text, most in ((failure.message, 1000), (failure.place, 500)):
        assert 0 < len(text) <= most
        text.encode()
    assert len(failure.report) <= guard.REPORT_LENGTH + 10
    assert failure.status in {400, 404, 500, 507}
    assert json.loads(json.dumps(failure.message)) == failure.message


def test_text():
    failure = guard.attempt(oddities.RAISES["value"])
    assert (failure.status, failure.code) == (500, "ModelError")
    assert failure.message == "ValueError: plain"
    assert failure.report.startswith("Traceback (most recent call last):\n")
    assert failure.report.endswith("\nValueError: plain")
    assert failure.place.startswith("ValueError at ")
    assert guard.attempt(oddities.RAISES["surrogate"]).message == "ValueError: \\ud800 and \\udfff"
    assert guard.attempt(oddities.RAISES["str"]).message == f"Broken: {guard.NO_TEXT}"


def test_report_has_the_rest():
    """Notes, members of a group, the line of a syntax error, causes before their effect."""
    assert "a note" in guard.attempt(oddities.RAISES["notes"]).report.splitlines()
    members = [
        line
        for line in guard.attempt(oddities.RAISES["group"]).report.splitlines()
        if line.startswith("  + ")
    ]
    assert [line.rpartition(": ")[2] for line in members] == ["group (2 sub-exceptions)", "beside"]
    assert "    a = (" in guard.attempt(oddities.RAISES["syntax"]).report
    report = guard.attempt(oddities.RAISES["chain"]).report
    assert report.count("direct cause") == guard.CHAIN - 1
    assert report.index("ValueError: 4998") < report.index("ValueError: 4999")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        type("Own", (MemoryError,), {})(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_memory(error):
    assert guard.status_of(error) == (507, "OutOfMemory")


def test_refusals_are_for_the_caller():
    """Not for the log."""

    def refuse():
        raise BadInput("not a picture")

    failure = guard.attempt(refuse)
    assert (failure.status, failure.code, failure.message) == (400, "BadInput", "not a picture")
    assert failure.report == ""


def test_recursion_limit():
    """A lower one than Python's own would fail us, too; a higher one is the user's wish."""
    before = sys.getrecursionlimit()
    try:
        assert guard.attempt(sys.setrecursionlimit, 300) is None
        assert sys.getrecursionlimit() == guard.RECURSION
        assert guard.attempt(sys.setrecursionlimit, 5000) is None
        assert sys.getrecursionlimit() == 5000
    finally:
        sys.setrecursionlimit(before)


@pytest.mark.parametrize("name", ["bytes", "bytearray", "memory", "bytes_subclass"])
def test_bodies_are_plain_bytes(name):
    one = job()
    one.succeed("application/json", oddities.VALUES[name]())
    assert type(one.reply.body.data) is bytes
    assert len(one.reply.body.data) == one.reply.body.size > 1


@pytest.mark.parametrize("status", [0, 100, 199, 600, 1e9, "200", True, None])
def test_statuses(status):
    found = job()
    found.context.reply_status = status
    with pytest.raises(ValueError, match="status"):
        found.succeed("application/json", b"")


def test_link_given_up_during_the_look(monkeypatch):
    """The main thread closes a lost link while another thread looks whether it is still there."""

    class GivenUp:
        def is_whole(self):
            guard.hold()
            return False

    monkeypatch.setattr(guard.os, "_exit", lambda _: pytest.fail("the worker was ended"))
    guard.hold(GivenUp())
    guard.check()


def test_failed_job(capfd):
    """One error for the caller, one report, with the ids that the handlers can't change."""
    one = job()
    one.context.request_id = one.context.headers = None
    one.run("predict", lambda _: oddities.RAISES["own"]())
    assert one.reply.meta["error"]["message"] == "Own: own"
    assert capfd.readouterr().err.count("request r-1, inference id i-1 failed: Own: own\n") == 1


def test_threads(monkeypatch):
    """All of them may end a call at the same moment."""
    kept = {}
    monkeypatch.setattr(log, "_kept", kept)
    log.keep()
    failures = []

    def look():
        failures.extend(filter(None, (guard.attempt(guard.restore) for _ in range(2000))))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for copy in kept.values():
        os.close(copy)
    assert failures == []


def test_endless_application():
    """One that sends on after its answer leaves room for the next request."""
    waiting = [True]

    async def endless(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200})
        while waiting:
            await send({"type": "http.response.body", "body": b"x"})

    for _ in range(2):
        reply = apps.App(endless, is_async=True).begin(apps.plain_request("GET", "/"), b"", None)
        assert list(reply.pieces) == [b"x"]
    waiting.clear()


def test_format_error_of_a_stream():
    """The same as that of a whole reply."""
    one = job()
    one.run("predict", lambda _: None)

    def items():
        raise type(error_replies.FORMAT_ERROR, (Exception,), {})("text/x")
        yield

    one.stream = items()
    (frame,) = streams.frames_of(one, lambda _: False)
    assert (frame.meta["error"]["status"], frame.meta["error"]["code"]) == (406, "NotAcceptable")


def test_link_refuses_what_is_no_json():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, pytest.raises(LinkError, match="JSON"):
        Link(ours).send(Frame(Kind.REPLY, 1, {"x": "\ud800"}, Body()))


def test_every_signal_has_words():
    """Also those without a name."""
    assert processes.describe(-(signal.SIGRTMIN + 3)) == f"was ended by signal {34 + 3}"
