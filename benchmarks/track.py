"""What does Track cost a step with all four sinks on, beside Metrics alone?

    python benchmarks/track.py

Writes track.json beside itself. The table and the predictions are in track.md.
"""

from __future__ import annotations

import http.server
import io
import json
import multiprocessing
import os
import platform
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from sagemaker_byoc.training.library.metrics import Metrics
from sagemaker_byoc.training.library.track import Track

STEPS, TURNS = 2000, 10


class Answers(http.server.BaseHTTPRequestHandler):
    """An MLflow that takes everything."""

    def do_GET(self) -> None:
        self._answer({"experiment": {"experiment_id": "1"}})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({"run": {"info": {"run_id": "1"}}})

    def _answer(self, document: dict[str, dict[str, object]]) -> None:
        data = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def serve(pipe: Connection) -> None:
    """In a process of its own: what it costs is not the training's."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        pipe.send(server.server_address[1])
        server.serve_forever()


def reference() -> float:
    """Thread CPU time of a loop that never changes, in ms: how fast the core is just now."""
    start = time.thread_time_ns()
    total = 0
    for number in range(300_000):
        total += number * number
    return (time.thread_time_ns() - start) / 1e6


def cost(metrics: Metrics, values: dict[str, float | torch.Tensor]) -> dict[str, float]:
    """CPU time in µs a step: of the thread that trains; and of the whole process until everything
    is brought out, MLflow's thread included."""
    thread, process = time.thread_time_ns(), time.process_time_ns()
    for step in range(STEPS):
        metrics.log(step, values)
    metrics.flush()
    trains = time.thread_time_ns() - thread
    metrics.close()
    return {
        "thread_us": trains / 1e3 / STEPS,
        "process_us": (time.process_time_ns() - process) / 1e3 / STEPS,
    }


def measure(kind: type[Metrics], address: str, every: int) -> list[dict[str, float]]:
    values = {"loss": torch.tensor(0.5), "accuracy": 0.9, "rate": 1e-3}
    found = []
    for _ in range(TURNS):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["SAGEMAKER_METRICS_DIRECTORY"] = folder
            os.environ["MLFLOW_TRACKING_URI"] = address
            file = Path(folder) / "metrics.jsonl"
            metrics = kind(every=every, file=file, stream=io.StringIO())
            loop = reference()
            found.append(cost(metrics, values) | {"loop_ms": (loop + reference()) / 2})
    return found


def main() -> None:
    torch.set_num_threads(1)
    pipe, end = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(end,))
    server.start()
    try:
        address = f"http://127.0.0.1:{pipe.recv()}"
        load = os.getloadavg()[0]
        turns = {
            f"{kind.__name__}, a line each {every} steps": measure(kind, address, every)
            for every in (10, 100)
            for kind in (Metrics, Track)
        }
    finally:
        server.terminate()
        server.join()
    result = {
        "machine": platform.machine(),
        "torch": torch.__version__,
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "best": {
            name: {
                key: round(value, 1)
                for key, value in min(found, key=lambda turn: turn["thread_us"]).items()
            }
            for name, found in turns.items()
        },
        "turns": turns,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["best"], indent=1))


if __name__ == "__main__":
    main()
