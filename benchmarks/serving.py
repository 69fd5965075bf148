"""Our server beside the same model in a bare gunicorn ASGI application, and in other servers.

Run: .venv/bin/python benchmarks/serving.py --peers FOLDER --packaged FOLDER
(writes serving.json beside itself)

The first folder is a site-packages folder that holds fastapi and uvicorn[standard]; the second has
an environment for each of serving_apps/packaged. Without them these rows are left out. The client
is wrk, on the same machine. Rounds go through all servers, so that a busy neighbour meets them all;
server CPU per request is what moves least.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
APPS = HERE / "serving_apps"
sys.path[:0] = [str(APPS), str(HERE)]
import workload  # noqa: E402
from serving_servers import Server, servers  # noqa: E402

CONNECTIONS = (1, 16, 64)
TICK = os.sysconf("SC_CLK_TCK")
LUA = """
local file = io.open(os.getenv("BODY"), "rb"); wrk.body = file:read("*a"); file:close()
wrk.method = "POST"; wrk.headers["Content-Type"] = os.getenv("TYPE")
done = function(s, l, r)
  local e = s.errors
  io.write(string.format('WRK {"n": %d, "seconds": %f, "p50": %f, "p99": %f, "errors": %d}\\n',
    s.requests, s.duration / 1e6, l:percentile(50) / 1e3, l:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@contextmanager
def running(
    server: Server, name: str, port: int, handlers: str | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "model" / "code"
        code.mkdir(parents=True)
        for path in APPS.glob("*.py"):
            shutil.copy(path, code)
        if handlers is not None:
            (code / "inference.py").write_text(handlers)
        environ = {
            **os.environ,
            "WORKLOAD": name,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(APPS), *server.paths]),
            "SAGEMAKER_BASE_DIR": folder,
            "SAGEMAKER_BIND_TO_PORT": str(port),
            "BYOC_BIND_HOST": "127.0.0.1",
            **server.environ,
        }
        command = [part.format(port=port) for part in server.command]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        try:
            yield process
        finally:
            all_of_it = tree(process.pid)
            process.terminate()
            process.wait(40)
            for pid in all_of_it:  # some leave theirs behind
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def tree(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += tree(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    total = 0
    for each in tree(pid):
        with suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICK


def pss_megabytes(pid: int) -> float:
    total = 0
    for each in tree(pid):
        with suppress(OSError):
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def request(port: int, path: str, data: bytes | None = None, kind: str = "") -> bytes | None:
    """The body of a 200; None for all else."""
    headers = {"Content-Type": kind} if kind else {}
    wanted = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
    try:
        with urllib.request.urlopen(wanted, timeout=10) as reply:
            return bytes(reply.read())
    except (urllib.error.URLError, OSError):
        return None


def wait_ready(process: subprocess.Popen[bytes], port: int) -> float:
    began = time.monotonic()
    while request(port, "/ping") is None:
        assert process.poll() is None, "the server has ended"
        assert time.monotonic() - began < 60, "the server does not get ready"
        time.sleep(0.01)
    return time.monotonic() - began


def cell(
    port: int, pid: int, connections: int, seconds: float, environ: dict[str, str]
) -> dict[str, float]:
    before = cpu_seconds(pid)
    command = ["wrk", f"-t{min(2, connections)}", f"-c{connections}", f"-d{seconds:g}s"]
    command += ["--latency", "-s", environ["SCRIPT"], f"http://127.0.0.1:{port}/invocations"]
    text = subprocess.run(
        command, env={**os.environ, **environ}, capture_output=True, text=True, check=True
    ).stdout
    row: dict[str, float] = json.loads(
        next(line for line in text.splitlines() if line.startswith("WRK"))[4:]
    )
    row["cpu_us"] = 1e6 * (cpu_seconds(pid) - before) / max(1, row["n"])
    row["rps"] = row["n"] / row["seconds"]
    return row


def measure(server: Server, name: str, port: int, seconds: float) -> dict[str, Any]:
    data, content_type = workload.body(name), workload.TYPES[name]
    with running(server, name, port) as process, tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "body").write_bytes(data)
        (Path(folder) / "wrk.lua").write_text(LUA)
        environ = {"BODY": f"{folder}/body", "TYPE": content_type, "SCRIPT": f"{folder}/wrk.lua"}
        ready = wait_ready(process, port)
        reply = request(port, "/invocations", data, content_type)
        cell(port, process.pid, 8, 1, environ)
        row: dict[str, Any] = {"server": server.name, "workload": name, "ready_s": ready}
        row["reply"] = (reply or b"").decode()[:200]
        for connections in CONNECTIONS:
            row[f"c{connections}"] = cell(port, process.pid, connections, seconds, environ)
        row["pss_mb"] = pss_megabytes(process.pid)
        row["load"] = os.getloadavg()[0]
        return row


HEAD = (
    "server",
    "requests/s at 1 / 16 / 64",
    *(f"p50 / p99 ms at {connections}" for connections in CONNECTIONS),
    "server CPU µs a request at 1 / 16 / 64",
    "PSS MB",
    "ready s",
    "errors",
)


def table(rows: list[dict[str, Any]]) -> str:
    """Medians over the rounds."""
    lines: list[str] = []
    for name in dict.fromkeys(row["workload"] for row in rows):
        lines += [f"\n**{name}**\n", f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
        for server in dict.fromkeys(row["server"] for row in rows if row["workload"] == name):
            mine = [row for row in rows if (row["server"], row["workload"]) == (server, name)]
            lines.append(f"| {' | '.join(cells(server, mine))} |")
    return "\n".join(lines)


def cells(server: str, rows: list[dict[str, Any]]) -> list[str]:
    def of(key: str, connections: int) -> float:
        return statistics.median(row[f"c{connections}"][key] for row in rows)

    return [
        server,
        " / ".join(f"{of('rps', c):,.0f}" for c in CONNECTIONS),
        *(f"{of('p50', c):.2f} / {of('p99', c):.1f}" for c in CONNECTIONS),
        " / ".join(f"{of('cpu_us', c):.0f}" for c in CONNECTIONS),
        f"{statistics.median(row['pss_mb'] for row in rows):.0f}",
        f"{statistics.median(row['ready_s'] for row in rows):.2f}",
        f"{sum(row[f'c{c}']['errors'] for row in rows for c in CONNECTIONS):.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers")
    parser.add_argument("--packaged", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--workloads", default="w1,w2,w3,w4")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    port = 18300
    for _ in range(options.rounds):
        for name in options.workloads.split(","):
            for server in servers(options.peers, options.packaged):
                if options.only in server.name and name in server.workloads:
                    port += 1
                    rows.append(measure(server, name, port, options.seconds))
                    print(
                        table(rows[-1:]).splitlines()[-1],
                        f"load {os.getloadavg()[0]:.1f}",
                        flush=True,
                    )
    options.out.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
