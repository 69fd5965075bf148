"""Start a server, load it with wrk, and count what it and the rest of the machine use meanwhile."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from serving_servers import APPS, Server

TICK = os.sysconf("SC_CLK_TCK")
READY_SECONDS = 90
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
    """Run `server` with the model `name`; `handlers` replaces the text of its inference.py."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        code = Path(folder) / "model" / "code"
        code.mkdir(parents=True)
        shutil.copy(APPS / "workload.py", code)
        shutil.copy(APPS / server.handler, code / "inference.py")
        if handlers is not None:
            (code / "inference.py").write_text(handlers)
        environ = {
            **os.environ,
            "WORKLOAD": name,
            "TMPDIR": folder,  # TorchServe refuses to start beside another's pid file
            "PYTHONPATH": os.pathsep.join([str(APPS), *server.paths]),
            "SAGEMAKER_BASE_DIR": folder,
            "SAGEMAKER_BIND_TO_PORT": str(port),
            "BYOC_BIND_HOST": "127.0.0.1",
            **server.environ,
        }
        command = [part.format(port=port) for part in server.command]
        log = Path(folder) / "log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command, env=environ, stdout=stream, stderr=stream, cwd=folder
            )
        try:
            yield process
        except BaseException:
            print(f"{server.name}, {name}: the end of its log:", file=sys.stderr)
            print(log.read_text(errors="replace")[-3000:], file=sys.stderr)
            raise
        finally:
            all_of_it = tree(process.pid)
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(40)
            for pid in all_of_it:  # some leave theirs behind
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()


def tree(pid: int) -> list[int]:
    """Return the process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended meanwhile
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


def machine_seconds() -> float:
    """Return the CPU time that the machine has used, and what its host took from it."""
    user, nice, system, _idle, _wait, irq, soft, steal, *_ = (
        int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + soft + steal) / TICK


def client_seconds() -> float:
    """Return the CPU time of this process and of the wrks that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def request(port: int, path: str, data: bytes | None = None, kind: str = "") -> bytes | None:
    """Return the body of a 200; None for any other reply and for none."""
    headers = {"Content-Type": kind} if kind else {}
    wanted = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
    try:
        with urllib.request.urlopen(wanted, timeout=10) as reply:
            return bytes(reply.read())
    except (urllib.error.URLError, OSError):
        return None


def wait_ready(
    process: subprocess.Popen[bytes],
    port: int,
    path: str = "/ping",
    data: bytes | None = None,
    kind: str = "",
) -> float:
    """Wait for a 200; return the seconds that it took."""
    began = time.monotonic()
    while request(port, path, data, kind) is None:
        assert process.poll() is None, "the server has ended"
        assert time.monotonic() - began < READY_SECONDS, f"{path} does not answer with 200"
        time.sleep(0.01)
    return time.monotonic() - began


def cell(
    port: int, pid: int, connections: int, seconds: float, environ: dict[str, str]
) -> dict[str, float]:
    """Load the server once; `others` is what all other processes used meanwhile, in CPUs."""
    began = time.monotonic()
    before = (cpu_seconds(pid), client_seconds(), machine_seconds())
    command = ["wrk", f"-t{min(2, connections)}", f"-c{connections}", f"-d{seconds:g}s"]
    command += ["--latency", "-s", environ["SCRIPT"], f"http://127.0.0.1:{port}/invocations"]
    text = subprocess.run(
        command, env={**os.environ, **environ}, capture_output=True, text=True, check=True
    ).stdout
    after = (cpu_seconds(pid), client_seconds(), machine_seconds())
    took = time.monotonic() - began
    server, client, machine = (new - old for new, old in zip(after, before, strict=True))
    row: dict[str, float] = json.loads(
        next(line for line in text.splitlines() if line.startswith("WRK"))[4:]
    )
    row["cpu_us"] = 1e6 * server / max(1, row["n"])
    row["rps"] = row["n"] / row["seconds"]
    row["others"] = max(0.0, (machine - server - client) / took)
    return row
