"""How fast the end of one rank ends a job of 2 hosts with 2 ranks, and what relaying 8 ranks costs.

Two supervisors on this machine, as hosts 127.0.0.2 and 127.0.0.3; no GPU, no torch. Report:
benchmarks/train_ranks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = [sys.executable, "-I", "-m", "sagemaker_byoc.training", "train"]
HOSTS = ["127.0.0.2", "127.0.0.3"]
WAITS = "import signal\n{}print('ready')\nwhile True: signal.pause()\n"
IGNORES = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
PRINTS = """import os, sys
for step in range({count}):
    print("rank:", os.environ["RANK"], "step:", step, f"loss={{step / 7:.6f}};")
"""


def make_tree(folder: Path, host: str, hosts: list[str], source: str) -> Path:
    (folder / "code").mkdir(parents=True, exist_ok=True)
    (folder / "input" / "config").mkdir(parents=True, exist_ok=True)
    (folder / "code" / "train.py").write_text(source)
    cluster = {"current_host": host, "hosts": hosts, "network_interface_name": "lo"}
    (folder / "input" / "config" / "resourceconfig.json").write_text(json.dumps(cluster))
    return folder


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def seconds_to_the_end(folder: Path, source: str, port: int) -> tuple[float, bool]:
    """From the SIGKILL of rank 3 to the last process's end; whether both files have the cause."""
    trees = [make_tree(folder / host, host, HOSTS, source) for host in HOSTS]
    environ = {"PATH": os.environ["PATH"], "BYOC_NPROC": "2", "MASTER_PORT": str(port)}
    started = []
    for tree in trees:
        with open(tree / "out", "wb") as out:
            given = {**environ, "SAGEMAKER_BASE_DIR": str(tree)}
            started.append(subprocess.Popen(COMMAND, env=given, stdout=out, stderr=out))
    while sum((tree / "out").read_text().count("ready") for tree in trees) < 4:
        time.sleep(0.01)
    ranks = [pid for process in started for pid in children(process.pid)]
    begin = time.monotonic()
    os.kill(ranks[3], signal.SIGKILL)
    while any(Path(f"/proc/{pid}").exists() for pid in ranks) or None in [
        process.poll() for process in started
    ]:
        time.sleep(0.002)
    seconds = time.monotonic() - begin
    texts = [(tree / "output" / "failure").read_text() for tree in trees]
    return seconds, all("[127.0.0.3 rank 3 exit 137]" in text for text in texts)


def relay(folder: Path, ranks: int, count: int) -> dict[str, float]:
    """Lines that survive, and seconds with and without the supervisor."""
    tree = make_tree(folder / "relay", "algo-1", ["algo-1"], PRINTS.format(count=count))
    environ = {
        "PATH": os.environ["PATH"],
        "SAGEMAKER_BASE_DIR": str(tree),
        "BYOC_NPROC": str(ranks),
    }
    begin = time.monotonic()
    done = subprocess.run(COMMAND, env=environ, capture_output=True, text=True, check=True)
    relayed = time.monotonic() - begin
    whole = 0
    for line in done.stdout.splitlines():
        words = line.removeprefix(f"[rank {line[6:7]}] ").split()
        whole += len(words) == 5 and words[0] == "rank:" and words[4].startswith("loss=")
    begin = time.monotonic()
    program = [sys.executable, str(tree / "code" / "train.py")]
    alone = [
        subprocess.Popen(
            program,
            env={"RANK": str(rank), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.DEVNULL,
        )
        for rank in range(ranks)
    ]
    for process in alone:
        process.wait()
    return {
        "whole_lines": whole,
        "written_lines": ranks * count,
        "seconds_relayed": relayed,
        "seconds_alone": time.monotonic() - begin,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--output", default="benchmarks/train_ranks.json")
    options = parser.parse_args()
    result: dict[str, object] = {
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, "
        f"CPython {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    }
    for name, extra in (("ranks that end on SIGTERM", ""), ("ranks that ignore it", IGNORES)):
        times = []
        for number in range(options.repeats):
            with tempfile.TemporaryDirectory() as folder:
                port = 20000 + os.getpid() % 10000 + 2 * number
                seconds, is_named = seconds_to_the_end(Path(folder), WAITS.format(extra), port)
                assert is_named
                times.append(seconds)
        result[name] = sorted(times)
        print(name, f"median {statistics.median(times):.2f} s, worst {max(times):.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        result["relay of 8 ranks"] = relay(Path(folder), 8, 20_000)
        print(result["relay of 8 ranks"])
    Path(options.output).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
