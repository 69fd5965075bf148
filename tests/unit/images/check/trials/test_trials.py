"""What a trial puts into a container, and how long a server may keep it."""

from __future__ import annotations

import io
import socket
import tarfile
import threading
from contextlib import contextmanager

import pytest
from tests.unit.images.engine import make_engine

from sagemaker_byoc.images.check.check import SERVING
from sagemaker_byoc.images.check.findings import apply
from sagemaker_byoc.images.check.trials import container, traffic, training
from sagemaker_byoc.images.check.trials.container import Deadline, Trials
from sagemaker_byoc.images.check.trials.serving import ServingTrial
from sagemaker_byoc.images.check.trials.traffic import Reply
from sagemaker_byoc.images.check.trials.training import Job, TrainingPlan

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


@pytest.mark.parametrize(
    "words",
    [
        "evalSymlinksInScope: too many links in /var/lib/docker/overlay2/x/merged/opt/ml",
        "Error processing tar file(exit status 1): mkdir /opt/ml: not a directory",
    ],
)
def test_a_link_to_itself_or_a_file_above_refuses_the_start(tmp_path, monkeypatch, words):
    engine = make_engine(tmp_path, monkeypatch, {}, Entrypoint=["/x"])
    engine.fails("cp", f"Error response from daemon: {words}")
    assert words in container.Container("any", {"/opt/ml/model/": b""}).start()


def test_one_file_above_the_limit_is_a_model(monkeypatch):
    monkeypatch.setattr(container, "_OUTPUT_LIMIT", 1000)
    found = {}
    with pytest.raises(container._EnoughError):
        container._keep(io.BytesIO(container.pack({"/m/model.bin": b"x" * 5000}, {})), found)
    assert {*found} == {"m/model.bin"}


@pytest.mark.parametrize(
    ("codes", "alone", "judged"),
    [
        ((None, None), 2.0, False),  # of 40 s, which a busy machine may need
        ((None, 0), 2.0, False),
        ((None, 1), 2.0, True),
        ((0, 0), 2.0, True),
        ((None, None), 0.5, True),  # 80 times what one alone took
    ],
)
def test_two_hosts_that_may_only_be_slow_are_not_judged(monkeypatch, codes, alone, judged):
    hosts = {f"algo-{number}": Job(exit_code=code) for number, code in enumerate(codes, 1)}
    monkeypatch.setattr(training, "_several", lambda *_: hosts)
    trials = Trials(lambda _: None)
    jobs = training._Run(TrainingPlan(image="any:1"), trials, Deadline(40.0))
    assert jobs.several(Job(exit_code=0, seconds=alone)) == (hosts if judged else {})
    assert [text.partition(":")[0] for text in trials.unjudged] == (
        [] if judged else ["a training job on two hosts"]
    )


def test_a_server_that_requests_end_is_one_finding():
    """What it did not answer after that says nothing."""
    seen = ServingTrial(
        healthy_after=1.0, replies={"plain": Reply(0, 0.1, error="closed")}, died=3, log="boom"
    )
    findings = list(apply(SERVING, seen, {}))
    assert [finding.id for finding in findings] == ["SRV024"]
    assert findings[0].what.endswith("exit code 3 while requests were made; its last line: boom")


@pytest.mark.parametrize(
    ("status", "rule"),
    [(0, "SRV022"), (204, "SRV002"), (302, "SRV002"), (404, "SRV002"), (500, "SRV022")],
)
def test_what_no_model_changes_is_an_error(status, rule):
    findings = list(apply(SERVING, ServingTrial(last_ping=status), {}))
    assert [finding.id for finding in findings] == [rule]


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
        reply = traffic.send(port, "POST", "/invocations", body=b"{}", timeout=0.2)
    assert reply.status == 0
    assert reply.error
    assert reply.seconds < 5


def test_a_server_that_reads_nothing_ends_the_announcement():
    with server() as port:
        reply = traffic.announce(port, "/invocations", {}, 200 << 20, 24 << 20, timeout=0.2)
    assert reply.status == 0


def test_a_server_that_hangs_up_has_said_so():
    """A connection that ends is not one on which the server waits for more."""
    with server(None) as port:
        reply = traffic.announce(port, "/invocations", {}, 200 << 20, 1000)
    assert (reply.status, bool(reply.error)) == (0, True)
