"""Starting and stopping the running server, and starts that fail."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.unit.serving.harness import ONE_WORKER, Server, children, is_alive, wait_until

pytestmark = pytest.mark.slow  # real processes


def test_loading_then_ready(tmp_path):
    """503 with the reason while the model loads, to requests too; then 200."""
    with Server(tmp_path, "slow_load") as server:
        reply = wait_until(lambda: (found := server.ping()).status == 503 and found)
        assert json.loads(reply.body) == {
            "status": "loading",
            "reason": "the model is being loaded",
        }
        assert server.invoke(b"1").status == 503
        server.let_go("load")
        server.wait_ready()
        assert "byoc: ping: loading" in server.log
        server.send_signal(signal.SIGINT)
        assert server.exit_code() == 0


@pytest.mark.parametrize(
    ("model", "cause"),
    [
        ("cannot_load", "RuntimeError: the weights are from another century"),
        ("exits_on_import", "exited with code 7"),
    ],
)
def test_load_fails(tmp_path, model, cause):
    """The container ends at once, not zero, and its last words are the cause."""
    with Server(tmp_path, model) as server:
        assert server.exit_code() == 1
        ours = [line for line in server.log.splitlines() if line.startswith("byoc: ")]
        assert any(cause in line for line in ours)
        assert "giving up" in ours[-1]


def test_traceback_of_failed_load(tmp_path):
    """The log holds the user's own line."""
    with Server(tmp_path, "cannot_load") as server:
        server.exit_code()
        assert server.log.count("Traceback") == 1
        assert 'raise RuntimeError("the weights' in server.log
        assert server.log.count("byoc: error: ") == 1


def test_no_model(tmp_path):
    """Without model and handlers the cause is plain."""
    with Server(tmp_path) as server:
        assert server.exit_code() == 1
        assert "holds no file" in server.log
        assert "Traceback" not in server.log


@pytest.mark.parametrize(
    ("environ", "cause"),
    [
        ({"SAGEMAKER_PROGRAM": "missing.py"}, "SAGEMAKER_PROGRAM: is missing.py"),
        ({"SAGEMAKER_MODEL_SERVER_WORKERS": "many"}, "SAGEMAKER_MODEL_SERVER_WORKERS: is 'many'"),
        ({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "0"}, "outside of a batch transform job"),
    ],
)
def test_bad_settings(tmp_path, environ, cause):
    """A setting that can't be meant ends the container before anything starts."""
    with Server(tmp_path, "echo", **environ) as server:
        assert server.exit_code() == 2
        assert cause in server.log


def test_drain(tmp_path):
    """SIGTERM: what is under way is finished and answered, nothing new gets in, exit 0."""
    environ = {"BYOC_QUEUE": "1", **ONE_WORKER}
    with Server(tmp_path, "obedient", **environ) as server, ThreadPoolExecutor() as pool:
        server.wait_ready()
        waiting = [pool.submit(server.command, "wait last") for _ in range(3)]
        full = wait_until(lambda: [entry for entry in waiting if entry.done()])
        assert full[0].result().status == 503  # so one runs and one is queued
        server.send_signal()
        wait_until(lambda: server.ping().status == 0)
        server.let_go("last")
        assert sorted(entry.result().status for entry in waiting) == [200, 200, 503]
        assert server.exit_code() == 0


def test_front_dies(tmp_path):
    """Without gunicorn nothing can be served: not zero, with the cause, and nobody left."""
    with Server(tmp_path, "echo") as server:
        server.wait_ready()
        front, (http_process,) = server.front()
        os.kill(front, signal.SIGKILL)
        assert server.exit_code() == 70
        assert "the front was ended by SIGKILL" in server.log
        wait_until(lambda: not is_alive(http_process))


@pytest.mark.parametrize("handler", ["", "import signal; signal.signal(signal.SIGTERM, print)\n"])
def test_supervisor_is_killed(tmp_path, handler):
    """Outside of a container too, nothing outlives it, not even what takes SIGTERM for itself."""
    server = Server(tmp_path, "echo")
    file = tmp_path / "model" / "code" / "inference.py"
    file.write_text(file.read_text() + handler)
    with server:
        server.wait_ready()
        pids = [*children(server.process.pid), *server.front()[1]]
        server.process.kill()
        wait_until(lambda: not any(map(is_alive, pids)))
