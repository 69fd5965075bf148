"""The tables of serving.py: what was measured, and the targets that follow from it.

A figure with a star: in half of the rounds or more, other processes took over a tenth of a CPU.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from serving_servers import BATCH, FASTAPI, STOCK, TORCHSERVE_BATCHES, servers_by_kind

CONNECTIONS = (1, 16, 64)
DISTURBED = 0.10
"""CPUs that other processes may take of a cell."""
STAR = "\\*"
HEAD = (
    "server",
    "requests/s at 1 / 16 / 64",
    *(f"p50 / p99 ms at {connections}" for connections in CONNECTIONS),
    "server CPU µs per request at 1 / 16 / 64",
    "PSS MB",
    "ready s",
    "errors",
    "turns",
)


class Figures:
    """Medians over the turns of one server with one workload."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def at(self, key: str, connections: int) -> float:
        return statistics.median(row[f"c{connections}"][key] for row in self.rows)

    def of(self, key: str) -> float:
        return statistics.median(row[key] for row in self.rows)

    def star(self, *connections: int) -> str:
        return STAR if any(self._is_disturbed(each) for each in connections) else ""

    def _is_disturbed(self, connections: int) -> bool:
        cells = [row[f"c{connections}"]["others"] > DISTURBED for row in self.rows]
        return 2 * sum(cells) >= len(cells)


Results = dict[tuple[str, str], Figures]
"""By server and workload."""


def results(rows: list[dict[str, Any]]) -> Results:
    keys = dict.fromkeys((row["server"], row["workload"]) for row in rows)
    return {
        key: Figures([row for row in rows if (row["server"], row["workload"]) == key])
        for key in keys
    }


def table(rows: list[dict[str, Any]]) -> str:
    found = results(rows)
    lines: list[str] = []
    for name in _workloads(found):
        lines += [f"\n**{name}**\n", f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
        for (server, workload), figures in found.items():
            if workload == name:
                lines.append(f"| {' | '.join(_cells(server, figures))} |")
    return "\n".join(lines)


def _workloads(found: Results) -> list[str]:
    return list(dict.fromkeys(workload for _, workload in found))


def _cells(server: str, of: Figures) -> list[str]:
    stars = {each: of.star(each) for each in CONNECTIONS}
    return [
        server,
        " / ".join(f"{of.at('rps', c):,.0f}{stars[c]}" for c in CONNECTIONS),
        *(f"{of.at('p50', c):.2f} / {of.at('p99', c):.1f}{stars[c]}" for c in CONNECTIONS),
        " / ".join(f"{of.at('cpu_us', c):.0f}{stars[c]}" for c in CONNECTIONS),
        f"{of.of('pss_mb'):.0f}",
        f"{of.of('ready_s'):.2f}",
        f"{sum(row[f'c{c}']['errors'] for row in of.rows for c in CONNECTIONS):.0f}",
        f"{len(of.rows)}",
    ]


@dataclass
class Target:
    """A bound on a figure of one server, divided by (or less) that of another."""

    what: str
    key: str
    connections: int
    bound: float
    of: str
    """The server whose figure it is."""
    by: tuple[str, ...]
    """The servers to compare with: the best of them."""
    workloads: tuple[str, ...] = ("w1", "w2", "w3", "w4")
    is_most: bool = False
    """`bound` is the highest, not the lowest, that meets it."""

    def cell(self, found: Results, workload: str) -> str:
        mine = found.get((self.of, workload))
        others = [found[name, workload] for name in self.by if (name, workload) in found]
        if mine is None or not others or workload not in self.workloads:
            return ""
        best = max(others, key=self._figure)
        value = self._value(mine, best)
        is_met = value <= self.bound if self.is_most else value >= self.bound
        stars = mine.star(self.connections) or best.star(self.connections)
        beside = f" ({best.rows[0]['server']})" if len(self.by) > 1 else ""
        return f"{value:.2f}{stars} {'met' if is_met else '**missed**'}{beside}"

    def _figure(self, figures: Figures) -> float:
        if self.key == "pss_mb":
            return figures.of(self.key)
        return figures.at(self.key, self.connections)

    def _value(self, mine: Figures, best: Figures) -> float:
        """Return the median over common turns; without any, what the medians give."""
        turns = {row["turn"]: row for row in best.rows if row["turn"] is not None}
        pairs = [(row, turns[row["turn"]]) for row in mine.rows if row["turn"] in turns]
        if self.key == "pss_mb" or not pairs:
            return self._compared(mine, best)
        return statistics.median(self._compared(Figures([a]), Figures([b])) for a, b in pairs)

    def _compared(self, mine: Figures, best: Figures) -> float:
        if self.key == "p99":
            return mine.at("p99", self.connections) / mine.at("p50", self.connections)
        if self.key == "p50":
            return mine.at("p50", self.connections) - best.at("p50", self.connections)
        return self._figure(mine) / self._figure(best)


def targets() -> list[Target]:
    single, all_packaged = servers_by_kind()
    fastapi = (FASTAPI,)
    found = [
        Target(f"stock ÷ FastAPI, requests/s at {c}", "rps", c, 1.2, STOCK, fastapi)
        for c in (16, 64)
    ]
    for c in (16, 64):
        what = f"stock ÷ FastAPI, CPU per request at {c}"
        found.append(Target(what, "cpu_us", c, 1.0, STOCK, fastapi, is_most=True))
    what = "stock ÷ FastAPI, PSS"
    found.append(Target(what, "pss_mb", 64, 1.0, STOCK, fastapi, is_most=True))
    for c in (16, 64):
        what = f"stock ÷ best packaged server that makes no batches, requests/s at {c}"
        found.append(Target(what, "rps", c, 2.0, STOCK, single))
    for c in (16, 64):
        what = f"stock ÷ best packaged server, its batches too, requests/s at {c}"
        found.append(Target(what, "rps", c, 2.0, STOCK, all_packaged, ("w4",)))
    for c, bound, name in ((16, 1.4, "w1"), (64, 1.8, "w1"), (64, 3.0, "w4")):
        what = f"batch ÷ FastAPI, requests/s at {c}"
        found.append(Target(what, "rps", c, bound, BATCH, fastapi, (name,)))
    what = "batch ÷ TorchServe's batches, requests/s at 64"
    found.append(Target(what, "rps", 64, 2.0, BATCH, (TORCHSERVE_BATCHES,), ("w4",)))
    for name, server in (("stock", STOCK), ("batch", BATCH)):
        what = f"{name}: p99 ÷ p50 at 64"
        found.append(Target(what, "p99", 64, 5.0, server, (server,), is_most=True))
    for name, server in (("stock", STOCK), ("batch", BATCH)):
        what = f"{name} less FastAPI, p50 ms at 1"
        found.append(Target(what, "p50", 1, 0.1, server, fastapi, is_most=True))
    return found


def targets_table(rows: list[dict[str, Any]]) -> str:
    found = results(rows)
    names = _workloads(found)
    head = ("target", "bound", *names)
    lines = ["\n**Targets**\n", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for target in targets():
        cells = [target.cell(found, name) for name in names]
        bound = f"{'≤' if target.is_most else '≥'} {target.bound:g}"
        if any(cells):
            lines.append(f"| {' | '.join((target.what, bound, *cells))} |")
    return "\n".join(lines)
