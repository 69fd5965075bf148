"""What a table of requests per second does not show: /ping under load, large bodies, start, memory.

Run: .venv/bin/python benchmarks/serving_edges.py   (prints lines of JSON)
"""

from __future__ import annotations

import http.client
import io
import json
import statistics
import subprocess
import sys
import threading
import time

import numpy as np
from serving_load import pss_megabytes, request, running, wait_ready
from serving_servers import APPS, Server

OURS = [sys.executable, "-m", "sagemaker_byoc.serving", "serve"]
ALONE = """
import workload
workload.answer(workload.model(), workload.body("w1"), "application/json")
"""
HOLD = """
import time

def model_fn(model_dir):
    return None

def predict_fn(data, model):
    time.sleep(20)
    return data
"""
FIRST = """
import torch

def model_fn(model_dir):
    return None

def predict_fn(data, model):
    return data[:1]
"""
BYTES = """
def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    return [len(body)]

def predict_fn(data, model):
    return data
"""


def ping_times(port: int, count: int) -> list[float]:
    """Milliseconds, on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    times = []
    for _ in range(count):
        began = time.perf_counter()
        connection.request("GET", "/ping")
        assert connection.getresponse().read() == b""
        times.append(1000 * (time.perf_counter() - began))
    connection.close()
    return sorted(times)


def ping_under_load(port: int) -> dict[str, object]:
    """Every worker busy and the queue full: requests are refused."""
    refused = threading.Event()

    def ask() -> None:
        if request(port, "/invocations", b"[1]", "application/json") is None:
            refused.set()

    with running(Server("ours", OURS), "w1", port, HOLD) as process:
        wait_ready(process, port)
        for _ in range(300):
            threading.Thread(target=ask, daemon=True).start()
        assert refused.wait(9), "300 requests do not fill the queue"  # before request() gives up
        times = ping_times(port, 2000)
    figures = {"p50_ms": times[1000], "p99_ms": times[1980], "max_ms": times[-1]}
    return {"what": "ping, worker busy and queue full", **figures}


def large_body(port: int) -> dict[str, object]:
    """25 MB of .npy to a handler, beside reading it from a socket and dropping it."""
    stream = io.BytesIO()
    np.save(stream, np.zeros(25 * 2**20 // 4 - 64, np.float32))
    data = stream.getvalue()
    bare = [sys.executable, "-m", "gunicorn", "--no-control-socket", "-k", "asgi", "-w", "1"]
    bare += ["-b", "127.0.0.1:{port}", "read:app"]
    return {
        "what": "25 MB body",
        "as_a_tensor_ms": body_time(Server("ours", OURS), port, data, FIRST),
        "as_bytes_ms": body_time(Server("ours", OURS), port + 1, data, BYTES),
        "read_and_dropped_ms": body_time(Server("bare", bare), port + 2, data),
    }


def body_time(server: Server, port: int, data: bytes, handlers: str | None = None) -> float:
    """Milliseconds, the median of 15."""
    times = []
    with running(server, "w1", port, handlers) as process:
        wait_ready(process, port)
        for _ in range(15):
            began = time.perf_counter()
            assert request(port, "/invocations", data, "application/x-npy") is not None
            times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


def start_and_memory(port: int) -> dict[str, object]:
    """From launch to the first 200 on /ping, beside torch and the model in one bare process."""
    alone, ready, memory = [], [], []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", ALONE], check=True, cwd=APPS)
        alone.append(time.perf_counter() - began)
        began = time.perf_counter()
        with running(Server("ours", OURS), "w1", port) as process:
            wait_ready(process, port)
            ready.append(time.perf_counter() - began)
            request(port, "/invocations", b"[[1,2,3,4,5,6,7,8,9,10,11,12,13]]", "application/json")
            memory.append(pss_megabytes(process.pid))
    return {
        "what": "start and memory, w1",
        "ready_s": statistics.median(ready),
        "torch_model_and_one_answer_s": statistics.median(alone),
        "pss_mb": statistics.median(memory),
        "pss_of_one_bare_process_mb": bare_process_memory(),
    }


def bare_process_memory() -> float:
    waiting = f"{ALONE}\nprint(flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", waiting], cwd=APPS, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    megabytes = pss_megabytes(process.pid)
    process.communicate(b"\n")
    return megabytes


def main() -> None:
    for measure, port in ((ping_under_load, 18600), (large_body, 18610), (start_and_memory, 18620)):
        print(json.dumps(measure(port)), flush=True)


if __name__ == "__main__":
    main()
