"""The real server as a child process, on a tree of its own, for tests."""

from __future__ import annotations

import http.client
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

ZOO = pathlib.Path(__file__).parents[2] / "zoo" / "models"
JSON = "application/json"
ONE_WORKER = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}
"""For tests of what one worker does with several requests, and of its end."""


def wait_until(condition, *, timeout=20.0):
    """The condition's value once it is true."""
    until = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)
    return value


def children(pid):
    """Pids of its direct children."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            stat = (entry / "stat").read_text() if entry.name.isdigit() else ""
        except OSError:
            continue
        if stat and int(stat.rpartition(")")[2].split()[1]) == pid:
            found.append(int(entry.name))
    return sorted(found)


def is_alive(pid):
    """Whether it runs; one that only waits to be reaped does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@dataclass
class Reply:
    """What a client saw."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self):
        return self.body.decode()


class Server:
    """Started by `with`; ended, with all that it started, at its end."""

    def __init__(self, root, model=None, **environ):
        self.root = root
        self.reserved = socket.socket()  # bound and never listening: nobody else gets the port
        self.reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.reserved.bind(("127.0.0.1", 0))
        self.port = self.reserved.getsockname()[1]
        self.log_file = root / "log"
        self.environ = {
            "PATH": os.environ["PATH"],
            "SAGEMAKER_BASE_DIR": str(root),
            "SAGEMAKER_BIND_TO_PORT": str(self.port),
            "BYOC_BIND_HOST": "127.0.0.1",
            "BYOC_PROGRAM_DIR": str(root / "program"),
            "ZOO": str(root),
            "BYOC_CAPTURE_FREE_PERCENT": "0",  # no test may depend on how full this disk is
            **environ,
        }
        self.command_line = [sys.executable, "-I", "-m", "sagemaker_byoc.serving", "serve"]
        (root / "model").mkdir(exist_ok=True)
        if model:
            shutil.copytree(ZOO / model, root / "model" / "code")

    def __enter__(self):
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                self.command_line,
                env=self.environ,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.reserved.close()

    @property
    def log(self):
        return self.log_file.read_text()

    def wait_ready(self, *, timeout=20.0):
        wait_until(lambda: self.ping().status == 200 or self.has_ended(), timeout=timeout)
        return self

    def has_ended(self):
        assert self.process.poll() is None, self.log
        return False

    def exit_code(self):
        return self.process.wait(30)

    def send_signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait_both(self, workers=2):
        """Wait for the second of two workers too."""
        self.wait_ready()
        ready = f"byoc_workers_ready {workers}\n"
        wait_until(lambda: ready in self.request("GET", "/metrics").text)
        return self

    def request(self, method, path, body=None, headers=None, *, timeout=30):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def ping(self, method="GET"):
        try:
            return self.request(method, "/ping")
        except ConnectionError:
            return Reply(0, http.client.HTTPMessage(), b"")

    def invoke(self, body, content_type=JSON, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", "/invocations", body, {"Content-Type": content_type, **named})

    def command(self, text):
        """For the obedient model."""
        return self.invoke(text.encode(), "application/x-command")

    def running(self, name):
        """Whether the obedient model waits for `name`."""
        return (self.root / f"{name}.running").exists()

    def let_go(self, name):
        (self.root / name).touch()

    def front(self):
        """Pid of the HTTP process: gunicorn's only child."""
        for pid in children(self.process.pid):
            command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"sagemaker_byoc.serving.front" in command:
                return pid, children(pid)
        return None, []
