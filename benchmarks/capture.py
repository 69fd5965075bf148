"""The serving container with capture of every request, beside the same without.

Run: .venv/bin/python benchmarks/capture.py      (writes capture.json beside itself)

Two servers with one handler of about a millisecond of CPU, asked in turn by wrk on this machine;
and the recorder alone, with its writer at work on a real folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving_load import LUA, cell, running, tree, wait_ready
from serving_servers import Server

from sagemaker_byoc.contract.capture import Record
from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.capture.lines import Traffic
from sagemaker_byoc.serving.capture.options import CaptureSettings
from sagemaker_byoc.serving.front.captures import Recorder

CONNECTIONS = (1, 16)
BODY = ",".join(f"{number / 7:.4f}" for number in range(30)).encode()
"""A row of 30 features."""
TARGET = 0.001
HANDLERS = """
import os
WORK = int(os.environ["WORK"])
def model_fn(model_dir): return None
def input_fn(body, content_type): return body
def predict_fn(data, model):
    total = 0
    for number in range(WORK):
        total += number
    return "0.5"
def output_fn(prediction, accept): return prediction, "text/csv"
"""
WAYS = ("without", "capture")


def calibrated() -> int:
    """Additions that take a millisecond of CPU."""

    def seconds(count: int) -> float:
        began = time.process_time()
        total = 0
        for number in range(count):
            total += number
        return time.process_time() - began

    count = 10_000
    per = min(seconds(count) for _ in range(20)) / count
    return int(TARGET / per)


def front_seconds(pid: int) -> float:
    """CPU time of the HTTP process and its parent, all threads: the rest is the model's worker."""
    total = 0
    for each in tree(pid):
        if b"serving.front" in Path(f"/proc/{each}/cmdline").read_bytes():
            for task in Path(f"/proc/{each}/task").glob("*/schedstat"):
                total += int(task.read_text().split()[0])
    return total / 1e9


@dataclass
class Pair:
    """Both servers, ready; `captures` is where one of them writes."""

    servers: dict[str, tuple[subprocess.Popen[bytes], int]]
    captures: Path
    environ: dict[str, str] = field(default_factory=dict)


@contextmanager
def pair(work: int) -> Iterator[Pair]:
    command = [sys.executable, "-m", "sagemaker_byoc.serving", "serve"]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="byoc-capture-")))
        (folder / "body").write_bytes(BODY)
        (folder / "wrk.lua").write_text(LUA)
        found = Pair({}, folder / "captures")
        found.environ = {
            "BODY": f"{folder}/body",
            "TYPE": "text/csv",
            "SCRIPT": f"{folder}/wrk.lua",
        }
        extra = {"without": {}, "capture": {"BYOC_CAPTURE": str(found.captures)}}
        for number, way in enumerate(WAYS):
            server = Server(way, command, {"WORK": str(work), **extra[way]})
            port = 18700 + number
            process = stack.enter_context(running(server, "w1", port, HANDLERS))
            wait_ready(process, port)
            found.servers[way] = (process, port)
        yield found


def compare(rounds: int, seconds: float) -> dict[str, Any]:
    """Rows of both ways, and what of the requests was captured."""
    rows: list[dict[str, Any]] = []
    with pair(calibrated()) as found:
        for process, port in found.servers.values():
            cell(port, process.pid, 4, 1, found.environ)
        for number in range(rounds):
            for connections in CONNECTIONS:
                for way in WAYS[:: 1 if number % 2 else -1]:
                    process, port = found.servers[way]
                    before = front_seconds(process.pid)
                    row: dict[str, Any] = cell(
                        port, process.pid, connections, seconds, found.environ
                    )
                    row["front_us"] = 1e6 * (front_seconds(process.pid) - before) / row["n"]
                    row |= {"way": way, "connections": connections, "round": number}
                    row["load"] = os.getloadavg()[0]
                    rows.append(row)
                    print(row, flush=True)
        process, _ = found.servers["capture"]
        process.terminate()
        process.wait(40)
        lines = [
            line
            for path in found.captures.rglob("*.jsonl")
            for line in path.read_bytes().splitlines()
        ]
        bodies = {Record.from_line(line).input.body for line in lines}  # type: ignore[union-attr]
        assert bodies == {BODY}
    return {"rows": rows, "records": len(lines)}


def alone(burst: int, count: int) -> dict[str, float]:
    """Microseconds of a record, `burst` of them every 10 ms: CPU time of all threads, less that of
    the same loop without records; and time in the call."""
    times: list[float] = []

    async def spend(recorder: Recorder | None) -> float:
        request, reply = Body(BODY), Body(b"0.5")
        before = time.process_time()
        for number in range(count):
            if recorder is not None:
                began = time.perf_counter()
                recorder.record(Traffic(request, "text/csv", reply, "text/csv", {}))
                times.append(1e6 * (time.perf_counter() - began))
            if number % burst == burst - 1:
                await asyncio.sleep(0.01)
        return time.process_time() - before

    async def main(folder: str) -> float:
        recorder = Recorder(CaptureSettings(folder=folder))
        recorder.open(asyncio.get_running_loop())
        cpu = await spend(recorder) - await spend(None)
        recorder.close()
        assert recorder.writer.written == count
        return 1e6 * cpu / count

    with tempfile.TemporaryDirectory(prefix="byoc-capture-") as folder:
        cpu = asyncio.run(main(folder))
    found = sorted(times)
    return {
        "a_second": 100 * burst,
        "cpu_us": cpu,
        "p50_us": found[count // 2],
        "p99_us": found[count * 99 // 100],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Medians over the rounds; ratios and differences are those of each round, then the median."""
    head = ("connections", "without req/s", "capture req/s", "ratio of the rounds, median [all]")
    head += ("p99 ms without / capture", "p99 more, µs", "CPU µs a request, all", "front alone")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for connections in CONNECTIONS:
        of = {
            way: [row for row in rows if (row["way"], row["connections"]) == (way, connections)]
            for way in WAYS
        }
        both = list(zip(of["without"], of["capture"], strict=True))
        ratios = [with_["rps"] / without["rps"] for without, with_ in both]
        more = [1000 * (with_["p99"] - without["p99"]) for without, with_ in both]

        def median(way: str, key: str, of: dict[str, list[dict[str, Any]]] = of) -> float:
            return statistics.median(row[key] for row in of[way])

        cells = [str(connections), *(f"{median(way, 'rps'):,.0f}" for way in WAYS)]
        cells.append(f"{statistics.median(ratios):.3f} [{min(ratios):.2f} … {max(ratios):.2f}]")
        cells.append(" / ".join(f"{median(way, 'p99'):.2f}" for way in WAYS))
        cells.append(f"{statistics.median(more):.0f}")
        cells.append(" / ".join(f"{median(way, 'cpu_us'):.0f}" for way in WAYS))
        cells.append(" / ".join(f"{median(way, 'front_us'):.0f}" for way in WAYS))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    found = compare(options.rounds, options.seconds)
    found["alone"] = [alone(burst, 500 * burst) for burst in (3, 10, 100)]
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found["rows"]))
    errors = sum(row["errors"] for row in found["rows"])
    print(f"errors: {errors}; records: {found['records']}; the recorder alone: {found['alone']}")


if __name__ == "__main__":
    main()
