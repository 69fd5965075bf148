"""How many captured rows a second does the monitor take, in how much memory, and what does it find?

    python benchmarks/monitor.py [--rows 10000000]

Writes monitor.json beside itself. The table and the predictions are in monitor.md.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer

from sagemaker_byoc.contract.capture import Encoding, Payload, Record
from sagemaker_byoc.monitor.data.columns import Kind
from sagemaker_byoc.monitor.data.distributions import Sketch, numeric_gap, robust
from sagemaker_byoc.monitor.data.statistics import Profile
from sagemaker_byoc.monitor.inputs.captures import CaptureReader
from sagemaker_byoc.monitor.inputs.layout import Layout
from sagemaker_byoc.monitor.jobs import make_data_baseline
from sagemaker_byoc.monitor.places import Input, Places

ROWS, TURNS, REPEATS = 200_000, 5, 400
KINDS = {f"f{place}": Kind.FRACTIONAL for place in range(6)}
KINDS |= {"f6": Kind.INTEGRAL, "f7": Kind.INTEGRAL, "f8": Kind.STRING, "f9": Kind.STRING}
"""Ten columns: six of fractions, two of whole numbers, three categories, and an id a row."""


def rows(count: int) -> Iterator[str]:
    random = np.random.default_rng(0)
    size = min(count, 50_000)
    floats = [random.normal(size=size).round(4).astype(str) for _ in range(6)]
    whole = [random.integers(0, 1000, size).astype(str) for _ in range(2)]
    plan = random.choice(["basic", "plus", "pro"], size)
    stems = [",".join(cells) for cells in zip(*floats, *whole, plan, strict=True)]
    for place in range(count):
        yield f"{stems[place % size]},id-{place}"


def line(row: str) -> bytes:
    request = Payload("text/csv", row + "\n", Encoding.CSV)
    answer = Payload("text/csv; charset=utf-8", "0.3027\n", Encoding.CSV)
    return Record(
        input=request,
        output=answer,
        event_id="1f0c2f0a-9a3e-4a3c-b1c4-1234567890ab",
        time=datetime(2026, 11, 23, 14, tzinfo=UTC),
        inference_id="",
    ).to_line()


class Stream(io.RawIOBase):
    """Captured lines that are made as they are read, so that no file is in anybody's memory."""

    def __init__(self, count: int) -> None:
        before, _, after = line("ROW").partition(b"ROW")
        self._lines = (before + row.encode() + after for row in rows(count))
        self._rest = b""
        self.making = 0.0
        """CPU seconds that making lines took."""

    def read(self, size: int = -1) -> bytes:
        start = time.process_time()
        parts, have = [self._rest], len(self._rest)
        for made in self._lines:
            parts.append(made)
            have += len(made)
            if have >= size:
                break
        data = b"".join(parts)
        self._rest = data[size:]
        self.making += time.process_time() - start
        return data[:size]


def throughput() -> dict[str, float]:
    """Best of some turns: the monitor, and json alone on the same lines."""
    data = b"".join(line(row) for row in rows(ROWS))
    decode = json.JSONDecoder().raw_decode
    best = {"monitor": float("inf"), "json alone": float("inf")}
    for _ in range(TURNS):
        start = time.process_time()
        profile = Profile(KINDS)
        reader = CaptureReader(Layout(tuple(KINDS)))
        for block in reader.blocks(["captures"], lambda _: io.BytesIO(data)):
            profile.add(block)
        best["monitor"] = min(best["monitor"], time.process_time() - start)
        assert profile.rows == ROWS
        start = time.process_time()
        for each in data.splitlines():
            decode(each.decode())
        best["json alone"] = min(best["json alone"], time.process_time() - start)
    return {f"{name}, rows/s": ROWS / seconds for name, seconds in best.items()} | {
        "bytes a line": len(data) / ROWS
    }


def peak() -> float:
    """MB of this process alone; ru_maxrss would begin with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def large(count: int) -> dict[str, float]:
    """In this process, which does nothing else."""
    stream = Stream(count)
    start, before = time.process_time(), peak()
    profile = Profile(KINDS)
    reader = CaptureReader(Layout(tuple(KINDS)))
    for block in reader.blocks(["captures"], lambda _: stream):  # type: ignore[arg-type, return-value]
        profile.add(block)
    seconds = time.process_time() - start - stream.making
    assert profile.rows == count
    return {
        "rows": count,
        "rows/s": count / seconds,
        "peak MB": peak(),
        "peak MB before the first row": before,
        "ids, estimated": profile.columns["f9"].categories.distinct,
    }


def baseline() -> dict[str, float]:
    """A million rows of twenty columns, as CSV."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "data.csv")
        random = np.random.default_rng(0)
        with open(path, "w") as file:
            file.write(",".join(f"f{place}" for place in range(20)) + "\n")
            for _ in range(100):
                np.savetxt(file, random.normal(size=(10_000, 20)), fmt="%.4f", delimiter=",")
        start = time.process_time()
        make_data_baseline(Places(), Input(place=str(path)), folder)
        seconds = time.process_time() - start
    return {"rows": 1_000_000, "columns": 20, "seconds": seconds}


def detection() -> dict[str, float]:
    """Random splits of breast_cancer, 284 and 285 rows of 30 columns, threshold 0.1."""
    data = load_breast_cancer().data
    alarms = {"Robust": 0, "Simple": 0}
    found = {0.5: 0, 0.75: 0, 1.0: 0}
    for seed in range(REPEATS):
        random = np.random.default_rng(seed)
        order = random.permutation(len(data))
        first, second = data[order[:284]], data[order[284:]]
        gaps = [_gap(first[:, place], second[:, place]) for place in range(data.shape[1])]
        alarms["Simple"] += max(gaps) > 0.1
        alarms["Robust"] += max(robust(gap, 284, 285) for gap in gaps) > 0.1
        place = int(random.integers(data.shape[1]))
        for shift in found:
            moved = second[:, place] + shift * first[:, place].std()
            found[shift] += robust(_gap(first[:, place], moved), 284, 285) > 0.1
    return {
        f"{name}: windows with a false alarm": each / REPEATS for name, each in alarms.items()
    } | {f"Robust: {shift} sd found": each / REPEATS for shift, each in found.items()}


def _gap(first: np.ndarray, second: np.ndarray) -> float:
    samples = []
    for values in (first, second):
        sketch = Sketch()
        sketch.add(values)
        samples.append(sketch.sample())
    return numeric_gap(*samples).size


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--large", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.large:
        print(json.dumps(large(arguments.large)))
        return
    found: dict[str, object] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": f"Python {platform.python_version()}, numpy {np.__version__}",
        "load before": os.getloadavg(),
    }
    found["throughput"] = throughput()
    print(json.dumps(found["throughput"]), flush=True)
    found["detection"] = detection()
    print(json.dumps(found["detection"]), flush=True)
    found["baseline"] = baseline()
    print(json.dumps(found["baseline"]), flush=True)
    done = subprocess.run(
        [sys.executable, __file__, "--large", str(arguments.rows)],
        capture_output=True,
        check=True,
        text=True,
    )
    found["large"] = json.loads(done.stdout)
    found["load after"] = os.getloadavg()
    print(json.dumps(found["large"]))
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
