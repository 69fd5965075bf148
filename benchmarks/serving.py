"""Our server beside the same model inline in ASGI servers, and beside packaged servers.

Run: scripts/bench serving --peers "$(scripts/peers-env FOLDER)"
(writes serving.json beside itself; --report prints the tables of such a file)

Without --peers, only ours and the bare gunicorn worker run. The client is wrk, on the same machine.
Rounds go through all servers, so that a busy neighbor meets them all; what other processes take of
each cell is recorded, and a disturbed cell is repeated, at most twice. Server CPU per request is
what moves least. A reply with other numbers than the model's ends the run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
APPS = HERE / "serving_apps"
sys.path[:0] = [str(APPS), str(HERE)]
import workload  # noqa: E402
from serving_load import LUA, cell, pss_megabytes, request, running, wait_ready  # noqa: E402
from serving_servers import Server, servers  # noqa: E402
from serving_tables import (  # noqa: E402
    CONNECTIONS,
    DISTURBED,
    table,
    targets_table,
)

WARM_SECONDS = 1  # wrk takes whole seconds


def check_reply(server: Server, name: str, reply: bytes | None) -> None:
    """Raise AssertionError unless the reply holds the model's own numbers."""
    data, kind = workload.body(name), workload.TYPES[name]
    expected = json.loads(workload.answer(workload.model(name), data, kind))["predictions"]
    found = json.loads(reply or b"null")
    rows = found["predictions"] if isinstance(found, dict) else found
    is_same = np.shape(rows) == np.shape(expected) and np.allclose(rows, expected, 1e-3, 1e-4)
    assert is_same, f"{server.name}, {name}: {str(found)[:300]}, not {str(expected)[:300]}"


def measure(server: Server, name: str, port: int, seconds: float, retries: int) -> dict[str, Any]:
    data, kind = workload.body(name), workload.TYPES[name]
    with running(server, name, port) as process, tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "body").write_bytes(data)
        (Path(folder) / "wrk.lua").write_text(LUA)
        environ = {"BODY": f"{folder}/body", "TYPE": kind, "SCRIPT": f"{folder}/wrk.lua"}
        row: dict[str, Any] = {"server": server.name, "workload": name}
        row["ping_s"] = wait_ready(process, port)
        # Some say 200 on /ping while no model is loaded.
        row["ready_s"] = row["ping_s"] + wait_ready(process, port, "/invocations", data, kind)
        check_reply(server, name, request(port, "/invocations", data, kind))
        cell(port, process.pid, 16, WARM_SECONDS, environ)
        for connections in CONNECTIONS:
            tries = [cell(port, process.pid, connections, seconds, environ)]
            while tries[-1]["others"] > DISTURBED and len(tries) <= retries:
                tries.append(cell(port, process.pid, connections, seconds, environ))
            least = min(tries, key=lambda each: each["others"])
            row[f"c{connections}"] = {**least, "tries": len(tries)}
        row["pss_mb"] = pss_megabytes(process.pid)
        row["load"] = os.getloadavg()[0]
        check_reply(server, name, request(port, "/invocations", data, kind))
        return row


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    port = 18300
    for number in range(options.rounds):
        for name in options.workloads.split(","):
            for server in servers(options.peers):
                is_late = server.is_packaged and number >= options.packaged_rounds
                is_wanted = re.search(options.only, server.name) and name in server.workloads
                if is_late or not is_wanted:
                    continue
                port += 1
                began = time.monotonic()
                rows.append(measure(server, name, port, options.seconds, options.retries))
                rows[-1]["took_s"] = time.monotonic() - began
                others = " / ".join(f"{rows[-1][f'c{c}']['others']:.2f}" for c in CONNECTIONS)
                print(f"{name} {table(rows[-1:]).splitlines()[-1]} others {others}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, help="a folder made by scripts/peers-env")
    parser.add_argument("--only", default="", help="a regular expression on the servers' names")
    parser.add_argument("--workloads", default="w1,w2,w3,w4")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--packaged-rounds", type=int, default=1, help="rounds of these servers")
    parser.add_argument("--seconds", type=int, default=2, help="of each cell")
    parser.add_argument("--retries", type=int, default=2, help="of a cell that others disturb")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--report", type=Path, help="print the tables of this file, run nothing")
    options = parser.parse_args()
    if options.report:
        rows = json.loads(options.report.read_text())["rows"]
    else:
        began = time.monotonic()
        rows = run(options)
        about = {
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "seconds": options.seconds,
            "minutes": round((time.monotonic() - began) / 60, 1),
        }
        options.out.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
        print(json.dumps(about))
    print(table(rows))
    print(targets_table(rows))


if __name__ == "__main__":
    main()
