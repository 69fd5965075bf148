"""What the region's metrics cost: written by ten threads, over HTTP, read back, and per invocation.

Run: .venv/bin/python benchmarks/cloudwatch.py      (writes cloudwatch.json beside itself)

The store takes turns with the plainest rival: a file per metric, a line per value, as logs are
kept. `without` is the same region with the note of an invocation taken out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sagemaker_byoc.region.clients import make_client
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.region import Region
from sagemaker_byoc.region.services.cloudwatch.cloudwatch import CloudWatch
from sagemaker_byoc.region.services.cloudwatch.metric import Metric
from sagemaker_byoc.region.services.cloudwatch.metric_store import MetricStore

sys.path.insert(0, str(Path(__file__).parent))
import region_invoke

WRITERS = 10
METRICS = 5
"""Per writer: a training job with five metric definitions."""
DAY = 1440
WITHOUT = region_invoke.REGION.replace(
    "with Region",
    "from sagemaker_byoc.region.services.sagemaker_runtime.invocation import Invocations\n"
    "Invocations._note = lambda *_: None\nwith Region",
)


class Lines:
    """The rival: values appended to one file per metric, read by a scan."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[Metric, Any] = {}
        self._lock = threading.Lock()

    def put(self, metric: Metric, value: float, at: float | None = None) -> None:
        moment = time.time() if at is None else at
        with self._lock:
            file = self._files.get(metric)
            if file is None:
                path = self._folder / f"{len(self._files)}.log"
                file = self._files[metric] = open(path, "ab", buffering=0)  # noqa: SIM115
            file.write(f"{moment} {value}\n".encode())

    def read(self, metric: Metric, start: int, end: int) -> list[tuple[int, float, int]]:
        found: dict[int, list[float]] = {}
        for line in Path(self._files[metric].name).read_text().splitlines():
            at, value = map(float, line.split())
            if start <= at < end:
                found.setdefault(int(at) // 60 * 60, []).append(value)
        return [(at, sum(values), len(values)) for at, values in sorted(found.items())]


def metrics(writer: int) -> list[Metric]:
    job = {"TrainingJobName": f"job-{writer}"}
    return [
        Metric.of("/aws/sagemaker/TrainingJobs", f"m{number}", job) for number in range(METRICS)
    ]


def write(put: Callable[[Metric, float], None], seconds: float) -> dict[str, float]:
    """Ten threads that write as fast as they can."""
    counts = [0] * WRITERS

    def run(writer: int) -> None:
        mine, count = metrics(writer), 0
        while time.perf_counter() < deadline:
            for metric in mine:
                put(metric, count * 0.001)
                count += 1
        counts[writer] = count

    threads = [threading.Thread(target=run, args=(writer,)) for writer in range(WRITERS)]
    cpu, deadline = time.process_time(), time.perf_counter() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = sum(counts)
    return {
        "values_per_s": total / seconds,
        "cpu_us_per_value": 1e6 * (time.process_time() - cpu) / total,
    }


def timed(call: Callable[[], object], times: int = 21) -> dict[str, float]:
    """Median and least time of a call, and its CPU time in this thread, in milliseconds."""
    wall, cpu = [], []
    for _ in range(times):
        began, began_cpu = time.perf_counter(), time.thread_time()
        call()
        cpu.append(1000 * (time.thread_time() - began_cpu))
        wall.append(1000 * (time.perf_counter() - began))
    return {"median": statistics.median(wall), "least": min(wall), "cpu": statistics.median(cpu)}


def store_beside_lines(rounds: int, seconds: float) -> dict[str, Any]:
    rows: dict[str, list[dict[str, float]]] = {"store": [], "lines": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for way in ("store", "lines")[:: 1 if number % 2 else -1]:
                place = Path(folder, f"{way}-{number}")
                place.mkdir()
                if way == "store":
                    store = MetricStore(place)
                    row = write(store.put, seconds)
                    store.close()
                    row["dropped"] = store.dropped
                else:
                    row = write(Lines(place).put, seconds)
                row["bytes"] = sum(file.stat().st_size for file in place.iterdir())
                rows[way].append(row)
                print(way, row, flush=True)
    return {
        way: {key: statistics.median(row[key] for row in found) for key in found[0]}
        for way, found in rows.items()
    }


def a_day(per_minute: int) -> dict[str, Any]:
    """A day of one-minute points of one metric, each of `per_minute` values."""
    metric = metrics(0)[0]
    end = int(time.time()) // 60 * 60
    start = end - DAY * 60
    with tempfile.TemporaryDirectory() as folder:
        store, lines = MetricStore(Path(folder, "store")), Lines(Path(folder))
        for minute in range(DAY):
            for number in range(per_minute):
                at = start + 60 * minute + 60 * number / per_minute
                store.put(metric, number * 0.001, at)
                lines.put(metric, number * 0.001, at)
        store.flush()
        operations = CloudWatch(
            Path(folder, "alarms"), store, Account(), publish=print
        ).operations()
        dimensions = [{"Name": name, "Value": value} for name, value in metric.dimensions]
        request = {
            "Namespace": metric.namespace,
            "MetricName": metric.name,
            "Dimensions": dimensions,
            "StartTime": datetime.fromtimestamp(start, UTC),
            "EndTime": datetime.fromtimestamp(end, UTC),
            "Period": 60,
            "Statistics": ["Average", "Maximum"],
        }
        get: Any = operations["GetMetricStatistics"]
        assert len(get(request)["Datapoints"]) == DAY
        assert len(lines.read(metric, start, end)) == DAY
        found = {
            "values_per_minute": per_minute,
            "store_ms": timed(lambda: store.read(metric, start, end, 60)),
            "operation_ms": timed(lambda: get(request)),
            "lines_ms": timed(lambda: lines.read(metric, start, end)),
        }
        store.close()
        return found


def over_http(seconds: float) -> Iterator[dict[str, Any]]:
    """Ten threads of boto3, in this process: it takes most of the CPU."""
    with Region() as region:
        os.environ.update(region.environ)

        def values(batch: int) -> dict[str, float]:
            counts = [0] * WRITERS
            data = [
                {"MetricName": f"m{number}", "Value": 1.5, "Unit": "None"}
                for number in range(batch)
            ]

            def run(writer: int) -> None:
                while time.perf_counter() < deadline:
                    clients[writer].put_metric_data(Namespace=f"n{writer}", MetricData=data)
                    counts[writer] += batch

            clients = [make_client("cloudwatch", region.url) for _ in range(WRITERS)]
            for client in clients:
                client.list_metrics()
            deadline = time.perf_counter() + seconds
            threads = [threading.Thread(target=run, args=(writer,)) for writer in range(WRITERS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return {"values_per_request": batch, "values_per_s": sum(counts) / seconds}

        for batch in (1, 20, 1000):
            yield values(batch)
        client = make_client("cloudwatch", region.url)
        now = datetime.now(UTC).replace(second=0, microsecond=0)
        for first in range(0, DAY, 720):
            data = [
                {"MetricName": "day", "Value": 1.0, "Timestamp": now - timedelta(minutes=minute)}
                for minute in range(first, first + 720)
            ]
            client.put_metric_data(Namespace="day", MetricData=data)
        span = {"StartTime": now - timedelta(days=1) + timedelta(minutes=1), "EndTime": now}
        metric = {"Namespace": "day", "MetricName": "day"}
        query = {"Id": "q", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Average"}}
        yield {
            "GetMetricStatistics_ms": timed(
                lambda: client.get_metric_statistics(
                    **metric, **span, Period=60, Statistics=["Average"]
                )
            ),
            "GetMetricData_ms": timed(
                lambda: client.get_metric_data(MetricDataQueries=[query], **span)
            ),
        }


def invocations(rounds: int, seconds: int) -> list[dict[str, Any]]:
    """Two regions, one without metrics of invocations, in turns."""
    rows: list[dict[str, Any]] = []
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        wrk = region_invoke.Wrk(Path(folder), "echo")
        ways = {}
        for way, script in (("with", region_invoke.REGION), ("without", WITHOUT)):
            region_invoke.REGION = script
            url, pid = stack.enter_context(region_invoke.region())
            region_invoke.deploy(url, ["measured"], "echo")
            keys = {name: os.environ[name] for name in names}
            ways[way] = (f"{url}/endpoints/measured/invocations", pid, keys)
        for number in range(-1, rounds):
            for connections in region_invoke.CONNECTIONS:
                for way in list(ways)[:: 1 if number % 2 else -1]:
                    url, pid, keys = ways[way]
                    os.environ.update(keys)
                    before = region_invoke.cpu_seconds(pid)
                    row: dict[str, Any] = wrk.run(url, connections, seconds)
                    row["cpu_us"] = 1e6 * (region_invoke.cpu_seconds(pid) - before) / row["n"]
                    row |= {"way": way, "connections": connections, "round": number}
                    if number >= 0:
                        rows.append(row)
                        print(row, flush=True)
    return rows


def ratios(rows: list[dict[str, Any]], connections: int, key: str) -> list[float]:
    """With, over without, within each round."""
    found = {
        (row["round"], row["way"]): row[key] for row in rows if row["connections"] == connections
    }
    count = 1 + max(number for number, _ in found)
    return sorted(found[number, "with"] / found[number, "without"] for number in range(count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    found: dict[str, Any] = {"python": platform.python_version(), "load": os.getloadavg()[0]}
    found["writers"] = store_beside_lines(options.rounds, options.seconds)
    found["day"] = [a_day(1), a_day(10)]
    found["http"] = list(over_http(options.seconds))
    found["invocations"] = rows = invocations(options.rounds, options.seconds)
    for connections in region_invoke.CONNECTIONS:
        for key in ("cpu_us", "rps", "p50", "p99"):
            each = ratios(rows, connections, key)
            text = " ".join(f"{ratio:.3f}" for ratio in each)
            print(connections, key, f"median {statistics.median(each):.3f}", text)
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({key: found[key] for key in ("writers", "day", "http")}, indent=1))


if __name__ == "__main__":
    main()
