"""Our server beside the same model inline in ASGI servers, and beside packaged servers.

Run: scripts/bench serving --peers "$(scripts/peers-env FOLDER)"
(writes serving.json beside itself; --report prints the tables of such a file)

Without --peers, only ours and the bare gunicorn worker run. The client is wrk, on the same machine.
Ours and the bare servers run at the same time and are loaded in turns, so that a busy neighbor of
the machine meets them all: a ratio is the median of those of the turns. Packaged servers run alone.
What other processes take of each cell is recorded, and a disturbed cell is repeated, at most twice.
Server CPU per request moves least. A reply with other numbers than the model's ends the run.
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
from contextlib import ExitStack
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


class Live:
    """A server that runs, with the request that loads it."""

    def __init__(self, server: Server, name: str, port: int, stack: ExitStack) -> None:
        data, kind = workload.body(name), workload.TYPES[name]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "body").write_bytes(data)
        (folder / "wrk.lua").write_text(LUA)
        self._environ = {"BODY": f"{folder}/body", "TYPE": kind, "SCRIPT": f"{folder}/wrk.lua"}
        self._server, self._name, self._port = server, name, port
        self.process = stack.enter_context(running(server, name, port))
        ping = wait_ready(self.process, port)
        # Some say 200 on /ping while no model is loaded.
        self.row: dict[str, Any] = {
            "server": server.name,
            "workload": name,
            "ping_s": ping,
            "ready_s": ping + wait_ready(self.process, port, "/invocations", data, kind),
        }
        self.check()
        self.cell(16, WARM_SECONDS)

    def check(self) -> None:
        data, kind = workload.body(self._name), workload.TYPES[self._name]
        check_reply(self._server, self._name, request(self._port, "/invocations", data, kind))

    def cell(self, connections: int, seconds: float) -> dict[str, float]:
        return cell(self._port, self.process.pid, connections, seconds, self._environ)

    def quiet_cell(self, connections: int, seconds: float, retries: int) -> dict[str, float]:
        """Return the cell; the least disturbed one, if the first was disturbed."""
        tries = [self.cell(connections, seconds)]
        while tries[-1]["others"] > DISTURBED and len(tries) <= retries:
            tries.append(self.cell(connections, seconds))
        return {**min(tries, key=lambda each: each["others"]), "tries": len(tries)}


def memory(server: Server, name: str, port: int) -> float:
    """Return the PSS of a server that runs alone: others would share its libraries."""
    with ExitStack() as stack:
        live = Live(server, name, port, stack)
        live.cell(64, WARM_SECONDS)
        return pss_megabytes(live.process.pid)


class Run:
    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._port = 18300
        self._pss: dict[tuple[str, str], float] = {}
        self.rows: list[dict[str, Any]] = []

    def all(self) -> None:
        options = self._options
        for number in range(options.rounds):
            for name in options.workloads.split(","):
                found = [
                    each
                    for each in servers(options.peers)
                    if re.search(options.only, each.name) and name in each.workloads
                ]
                self._take_turns([each for each in found if not each.is_packaged], name, number)
                for each in found if number < options.packaged_rounds else ():
                    if each.is_packaged:
                        self._take_turns([each], name, number)

    def _take_turns(self, group: list[Server], name: str, number: int) -> None:
        """Load servers that all run, in turns: what is compared is seconds apart."""
        for each in group:
            if (each.name, name) not in self._pss:
                self._pss[each.name, name] = memory(each, name, self._next_port())
        if not group:
            return
        with ExitStack() as stack:
            lives = [Live(each, name, self._next_port(), stack) for each in group]
            turns = self._options.turns if len(group) > 1 else 1
            rows = [self._turn(lives, turn) for turn in range(turns)]
            for each in lives:
                each.check()
        for turn, of_turn in enumerate(rows):
            for row in of_turn:
                # A server without rivals is loaded at another time than ours.
                row["turn"] = number * turns + turn if len(group) > 1 else None
                row["pss_mb"] = self._pss[row["server"], name]
                self.rows.append(row)
        for each in zip(*rows, strict=True):
            others = max(row[f"c{c}"]["others"] for row in each for c in CONNECTIONS)
            line = table(list(each)).splitlines()[-1]
            print(f"{name} {line} others at most {others:.2f}", flush=True)

    def _turn(self, lives: list[Live], turn: int) -> list[dict[str, Any]]:
        rows = [{**each.row} for each in lives]
        for connections in CONNECTIONS:
            order = list(zip(lives, rows, strict=True))
            for live, row in order if turn % 2 == 0 else order[::-1]:
                row[f"c{connections}"] = live.quiet_cell(
                    connections, self._options.seconds, self._options.retries
                )
        return rows

    def _next_port(self) -> int:
        self._port += 1
        return self._port


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, help="a folder made by scripts/peers-env")
    parser.add_argument("--only", default="", help="a regular expression on the servers' names")
    parser.add_argument("--workloads", default="w1,w2,w3,w4")
    parser.add_argument("--rounds", type=int, default=2, help="starts of each server")
    parser.add_argument("--turns", type=int, default=4, help="in each round, of ours and the bare")
    parser.add_argument("--packaged-rounds", type=int, default=1, help="rounds of these servers")
    parser.add_argument("--seconds", type=int, default=1, help="of each cell")
    parser.add_argument("--retries", type=int, default=2, help="of a cell that others disturb")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--report", type=Path, help="print the tables of this file, run nothing")
    options = parser.parse_args()
    if options.report:
        rows = json.loads(options.report.read_text())["rows"]
    else:
        began = time.monotonic()
        run = Run(options)
        run.all()
        rows = run.rows
        about = {
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "seconds": options.seconds,
            "rounds": options.rounds,
            "turns": options.turns,
            "minutes": round((time.monotonic() - began) / 60, 1),
        }
        lines = ",\n".join(map(json.dumps, rows))
        options.out.write_text(f'{{"about": {json.dumps(about)}, "rows": [\n{lines}\n]}}\n')
        print(json.dumps(about))
    print(table(rows))
    print(targets_table(rows))


if __name__ == "__main__":
    main()
