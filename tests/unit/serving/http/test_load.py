"""The running server when models are slow, fail, hang or die."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.unit.serving.harness import ONE_WORKER, Server, children, wait_until

pytestmark = pytest.mark.slow  # real processes

SLOTS, QUEUE = 2, 2


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    environ = {"SAGEMAKER_MODEL_SERVER_WORKERS": str(SLOTS), "BYOC_QUEUE": str(QUEUE)}
    with Server(tmp_path_factory.mktemp("two"), "obedient", **environ) as running:
        yield running.wait_both()


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    environ = {"SAGEMAKER_MODEL_SERVER_TIMEOUT": "0.4", "BYOC_STUCK_GRACE": "0.2", **ONE_WORKER}
    with Server(tmp_path_factory.mktemp("hasty"), "obedient", **environ) as running:
        yield running.wait_ready()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as executor:
        yield executor


def message(reply):
    return json.loads(reply.body)["error"]["message"]


def test_handler_raises(server):
    """The caller gets type and text, the log the traceback, once."""
    reply = server.command("fail on purpose")
    assert (reply.status, message(reply)) == (500, "ValueError: on purpose")
    wait_until(lambda: "ValueError: on purpose\n" in server.log)
    assert server.log.count("Traceback") == 1


def test_handler_exits(server):
    """sys.exit in a handler fails its request and not the worker."""
    assert server.command("leave now").status == 500
    assert "a new one starts" not in server.log


def test_out_of_memory(server):
    """507 as for a multi-model endpoint, so that the platform can tell."""
    assert server.command("exhaust it").status == 507


def test_print(server):
    """Prints go to the log and never into the link."""
    assert server.command("print to the log").status == 200
    assert "\nto the log\n" in server.log


def test_wrong_output(server):
    """An output that is not a body is named."""
    reply = server.command("object")
    assert reply.status == 500
    assert "object; return bytes" in message(reply)


def test_replies_find_their_clients(server, pool):
    """Concurrent requests are answered each to its own client."""
    for reply, number in [(pool.submit(server.command, f"n{i}"), i) for i in range(SLOTS + QUEUE)]:
        assert reply.result().text.split() == [reply.result().text.split()[0], f"n{number}"]


def test_full_and_ping(server, pool):
    """With all lanes busy and the queue full: 503 at once, and /ping waits for none of them."""
    waiting = [pool.submit(server.command, "wait full") for _ in range(SLOTS + QUEUE + 1)]
    refused = wait_until(lambda: [entry for entry in waiting if entry.done()])
    waiting.remove(refused[0])
    reply = refused[0].result()
    assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
    for _ in range(100):
        assert server.ping().status == 200
    assert not any(entry.done() for entry in waiting)
    server.let_go("full")
    assert [entry.result().status for entry in waiting] == [200] * (SLOTS + QUEUE)


def test_killed_worker(server, pool):
    """Only the request that the dead worker ran fails; its slot comes back."""
    other = pool.submit(server.command, "wait other")
    wait_until(lambda: server.running("other"))
    reply = server.command("die")
    assert (reply.status, "process ended" in message(reply)) == (500, True)
    assert server.ping().status == 200
    server.let_go("other")
    assert other.result().status == 200
    server.wait_both()


RECORDING = """
import os, time
LOG = os.open(os.environ["ZOO"] + "/begun", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    os.write(LOG, b"%d %s\\n" % (os.getpid(), body))
    return body

def predict_fn(data, model):
    time.sleep(0.002)  # the model's own time: requests queue behind it
    return data

def output_fn(prediction, accept):
    return prediction, "text/plain"
"""


def test_kill_under_load(tmp_path, pool):
    """Requests that a killed worker has begun fail, with the replies that it held for a moment;
    none that was only handed to it is lost, and none runs twice."""
    code = tmp_path / "model" / "code"
    code.mkdir(parents=True)
    (code / "inference.py").write_text(RECORDING)
    with Server(tmp_path, SAGEMAKER_MODEL_SERVER_WORKERS="2", BYOC_QUEUE="999") as server:
        server.wait_both()
        kills = 3
        is_over = []

        def send(first):
            """Send every eighth number; return those that were sent and those that failed."""
            sent, failed = [], []
            while not is_over:
                sent.append(first + 8 * len(sent))
                reply = server.invoke(str(sent[-1]), "text/plain")
                if reply.status != 200 or reply.text != str(sent[-1]):
                    failed.append((sent[-1], reply.status, message(reply)))
            return sent, failed

        threads = [pool.submit(send, first) for first in range(8)]
        for kill in range(1, kills + 1):
            so_far = len(_lines(tmp_path / "begun"))
            wait_until(lambda least=so_far + 50: len(_lines(tmp_path / "begun")) > least)
            os.kill(int(_lines(tmp_path / "begun")[-1].split()[0]), signal.SIGKILL)
            restarts = f"byoc_worker_restarts_total {kill}"
            wait_until(lambda text=restarts: text in server.request("GET", "/metrics").text)
        is_over.append(True)
        results = [thread.result() for thread in threads]
        failed = [entry for _, found in results for entry in found]
        assert {(status, "process ended" in text) for _, status, text in failed} <= {(500, True)}
        begun = [int(line.split()[1]) for line in _lines(tmp_path / "begun")]
        assert len(begun) == len(set(begun))
        sent = {number for numbers, _ in results for number in numbers}
        lost = {number for number, *_ in failed}
        assert sent - set(begun) <= lost
        assert len(lost - set(begun)) <= kills  # killed between the mark and the handler's line


def _lines(path):
    return path.read_text().splitlines()


def test_killed_front(server):
    """The HTTP process comes back by itself, and the models stay loaded."""
    loads = server.log.count("model loaded")
    pids = {str(pid) for pid in children(server.process.pid)}
    _, (worker,) = server.front()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: server.front()[1] not in ([], [worker]) and server.ping().status == 200)
    assert server.command("pid").text.split()[0] in pids
    assert server.log.count("model loaded") == loads


def test_deadline(hasty):
    """504 at the deadline; a worker that comes back in time is kept."""
    reply = hasty.command("wait late")
    assert reply.status == 504
    hasty.let_go("late")
    assert wait_until(lambda: _answered(hasty)).status == 200


def test_hang(hasty):
    """A worker stuck long past the deadline prints its stacks, ends, and is replaced."""
    assert hasty.command("hang").status == 504
    wait_until(lambda: "SIGABRT" in hasty.log)
    assert "in hang" in hasty.log
    assert wait_until(lambda: _answered(hasty)).status == 200


def _answered(server):
    reply = server.command("again")
    return reply if reply.status == 200 else None
