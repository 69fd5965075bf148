"""Capture by the running server: what is written, what is not, and how it ends."""

from __future__ import annotations

import gzip
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.unit.serving.capture.test_writer import complete, open_files
from tests.unit.serving.harness import Server, wait_until

from sagemaker_byoc.contract.capture import Encoding, Record, hour_of

pytestmark = pytest.mark.slow  # real processes
CSV = "text/csv"
LARGE = 70 * 1024
ZIPPED = gzip.compress(b"7,8")


@pytest.fixture
def serve(tmp_path):
    def begin(**environ):
        folder = tmp_path / "captures"
        return Server(tmp_path, "captured", BYOC_CAPTURE=str(folder), **environ)

    return begin


def records(server):
    """Return the records of all complete files, in order."""
    folder = server.root / "captures"
    lines = [line for path in complete(folder) for line in path.read_bytes().splitlines()]
    return [Record.from_line(line) for line in lines]


def end(server):
    server.send_signal(signal.SIGTERM)
    assert server.exit_code() == 0
    assert open_files(server.root / "captures") == []
    return records(server)


def count(server, outcome):
    text = server.request("GET", "/metrics").text
    prefix = f'byoc_capture_records_total{{outcome="{outcome}"}} '
    (line,) = [line for line in text.splitlines() if line.startswith(prefix)]
    return int(float(line.removeprefix(prefix)))


def test_both_directions_by_every_way(serve):
    """Whole small requests, chunked ones, large ones, streams: one line each, bodies as they were.
    Chats, other routes and failures leave none."""
    with serve() as server:
        server.wait_ready()
        named = {
            "Accept": CSV,
            "X_Amzn_SageMaker_Inference_Id": "i-1",
            "X_Amzn_SageMaker_Custom_Attributes": "trace=7",
        }
        server.invoke(b"1,2", CSV, **named)
        server.request("POST", "/invocations", iter([b"3,", b"4"]), {"Content-Type": CSV})
        large = b"5," * LARGE
        server.invoke(large, CSV, Accept=CSV)
        server.invoke(b"stream,6", CSV, Accept=CSV)
        server.invoke(b"", CSV, Accept=CSV)
        server.invoke(ZIPPED, "application/octet-stream", Accept=CSV)
        server.invoke(b"\xff\xfe", "image/png", Accept="image/png")
        assert server.invoke(b"fail", CSV).status == 500
        assert server.invoke(b"\xff", CSV).status == 400
        server.request("GET", "/nowhere")
        server.ping()
        found = end(server)
    assert [record.input.body for record in found] == [
        *(b"1,2", b"3,4", large, b"stream,6", b"", ZIPPED, b"\xff\xfe")
    ]
    assert all(record.output.body == record.input.body for record in found)
    first, second, third, stream, empty, zipped, image = found
    assert (first.inference_id, first.custom_attributes) == ("i-1", ("trace=7",))
    assert first.output.content_type == CSV
    assert (second.output.content_type, second.output.encoding) == ("application/json", "JSON")
    assert third.output.encoding is stream.input.encoding is empty.input.encoding is Encoding.CSV
    assert zipped.input.encoding is image.output.encoding is Encoding.BASE64
    assert zipped.output.encoding is Encoding.BASE64, "it claims to be CSV, and is not UTF-8"
    assert "replies of type image/png are kept as BASE64" in server.log
    (path,) = complete(server.root / "captures")
    assert hour_of(str(path)) == first.time.replace(minute=0, second=0)


def test_off_without_the_variable(tmp_path):
    with Server(tmp_path, "captured") as server:
        server.wait_ready().invoke(b"1", CSV, Accept=CSV)
        assert "byoc_capture" not in server.request("GET", "/metrics").text


def test_sigterm_with_a_request_under_way(serve):
    """What was answered before is complete at once; the last answer is written too."""
    with serve() as server:
        server.wait_ready().invoke(b"1", CSV, Accept=CSV)
        with ThreadPoolExecutor(1) as pool:
            last = pool.submit(server.invoke, b"wait", CSV, Accept=CSV)
            wait_until((server.root / "wait.running").exists)
            server.send_signal(signal.SIGTERM)
            wait_until(lambda: len(records(server)) == 1)
            (server.root / "wait").touch()
            assert last.result(20).body == b"wait"
        assert server.exit_code() == 0
        assert [record.input.body for record in records(server)] == [b"1", b"wait"]


def test_killed_front(serve):
    """kill -9: the next HTTP process completes what was written, and cuts half a line."""
    with serve() as server:
        server.wait_ready().invoke(b"1", CSV, Accept=CSV)
        folder = server.root / "captures"
        wait_until(lambda: count(server, "written") == 1)
        (left,) = open_files(folder)
        with left.open("ab") as file:
            file.write(b'{"captureData":{"endp')
        _, (http_process,) = server.front()
        os.kill(http_process, signal.SIGKILL)
        wait_until(lambda: len(records(server)) == 1)
        server.wait_ready().invoke(b"2", CSV, Accept=CSV)
        assert [record.input.body for record in end(server)] == [b"1", b"2"]
        assert "cut 21 bytes of half a line" in server.log


def test_bodies_over_the_limit(serve):
    """Answered, and not captured."""
    with serve(BYOC_CAPTURE_BODY_MB="1") as server:
        server.wait_ready()
        for start in (b"", b"stream"):
            body = start + b"1" * 2**20 + b"1"
            assert server.invoke(body, CSV, Accept=CSV).body == body
        wait_until(lambda: count(server, "size") == 2)
        assert end(server) == []


def test_redaction(serve):
    """Nothing of a request is in any file or in the log but what redact_fn has returned."""
    with serve(REDACT="1") as server:
        server.wait_ready()
        server.invoke(b"secret,1", CSV, Accept=CSV, X_Amzn_SageMaker_Custom_Attributes="secret")
        server.invoke(b"stream-secret", CSV, Accept=CSV, X_Amzn_SageMaker_Inference_Id="i-1")
        server.invoke(b"secret" + b"x" * LARGE, CSV, Accept=CSV)
        for body in (b"secret-none", b"secret-fail", b"secret-type"):
            assert server.invoke(body, CSV, Accept=CSV).body == body
        wait_until(lambda: count(server, "redaction") == 2)
        assert count(server, "skipped") == 1
        small, stream, large = end(server)
    assert (small.input.body, small.output.body) == (b"*" * 8, b"******,1")
    assert (stream.output.body, stream.inference_id) == (b"stream-******", "i-1")
    assert large.output.body == b"******" + b"x" * LARGE
    assert small.custom_attributes == ()
    assert "redact_fn failed: ValueError at" in server.log
    written = [path.read_bytes() for path in complete(server.root / "captures")]
    assert not any(b"secret" in text for text in [*written, server.log.encode()])


def test_folder_that_cannot_be_written(tmp_path):
    """Said at the start, and not in the middle of the night."""
    (tmp_path / "file").touch()
    with Server(tmp_path, "captured", BYOC_CAPTURE=str(tmp_path / "file" / "x")) as server:
        assert server.exit_code() == 2
        assert "BYOC_CAPTURE: is " in server.log
        assert "Traceback" not in server.log
