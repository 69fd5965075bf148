"""The region's S3 beside moto's server: large and small objects, and what the servers grow by.

Run: BYOC_MOTO_PYTHON=$(scripts/moto-env FOLDER) .venv/bin/python benchmarks/object_store.py
     [--objects 10000] [--mebibytes 1024] [--rounds 3]   (writes object_store.json beside itself)
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sagemaker_byoc.region.clients import make_client
from sagemaker_byoc.region.core.account import Keys, read_keys

PART = 64 << 20
BLOCK = 250
"""Small objects of one side, before it is the other's turn."""
SMALL = b"x" * 1000
CHUNK = 1 << 20

REGION = """
import sys, time
from sagemaker_byoc.region.region import Region
with Region(sys.argv[1], port=int(sys.argv[2])):
    sys.stdin.read()
"""


class Side:
    def __init__(self, name: str, url: str, pid: int) -> None:
        self.name = name
        self.pid = pid
        self._url = url
        self.seconds: dict[str, list[float]] = {}
        self.cpu: dict[str, float] = {}
        self.client_cpu: dict[str, float] = {}
        self.growth: dict[str, int] = {}

    def connect(self, keys: Keys) -> None:
        self.s3 = make_client("s3", self._url, keys, region="us-east-1")
        self.s3.create_bucket(Bucket="bench")

    def measure(self, function: Callable[[Side, Any], None], argument: Any) -> None:
        what = function.__name__.replace("_", " ")
        before = peak(self.pid)
        cpu, client_cpu = cpu_seconds(self.pid), time.process_time()
        start = time.perf_counter()
        function(self, argument)
        self.seconds.setdefault(what, []).append(time.perf_counter() - start)
        self.cpu[what] = self.cpu.get(what, 0) + cpu_seconds(self.pid) - cpu
        self.client_cpu[what] = self.client_cpu.get(what, 0) + time.process_time() - client_cpu
        grown = peak(self.pid) - before
        self.growth[what] = self.growth.get(what, 0) + grown


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, region(folder) as ours, moto() as theirs:
        sides = (ours, theirs)
        for side in sides:
            side.s3.list_buckets()
        small(sides, options.objects)
        large(sides, Path(folder) / "source", options.mebibytes << 20, options.rounds)
    rows = [row(what, ours, theirs) for what in ours.seconds]
    for line in rows:
        print(json.dumps(line))
    report = {"objects": options.objects, "mebibytes": options.mebibytes, "rows": rows}
    Path(__file__).with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")


def small(sides: tuple[Side, ...], count: int) -> None:
    for start in range(0, count, BLOCK):
        for side in sides:
            side.measure(put_small, start)
    for _ in range(3):
        for side in sides:
            side.measure(list_small, count)
    for start in range(0, count, BLOCK):
        for side in sides:
            side.measure(get_small, start)


def put_small(side: Side, start: int) -> None:
    for number in range(start, start + BLOCK):
        side.s3.put_object(Bucket="bench", Key=f"small/{number:06}", Body=SMALL)


def list_small(side: Side, count: int) -> None:
    pages = side.s3.get_paginator("list_objects_v2").paginate(Bucket="bench", Prefix="small/")
    found = sum(len(page["Contents"]) for page in pages)
    assert found == count, f"{side.name} lists {found}"


def get_small(side: Side, start: int) -> None:
    for number in range(start, start + BLOCK):
        key = f"small/{number:06}"
        assert side.s3.get_object(Bucket="bench", Key=key)["Body"].read() == SMALL


def large(sides: tuple[Side, ...], source: Path, size: int, rounds: int) -> None:
    with open(source, "wb") as file:
        file.writelines(os.urandom(CHUNK) for _ in range(size >> 20))
    for _ in range(rounds):
        for side in sides:
            side.measure(put_large, source)
            side.measure(get_large, size)
            side.measure(put_large_in_parts, source)


def put_large(side: Side, source: Path) -> None:
    with open(source, "rb") as body:
        side.s3.put_object(Bucket="bench", Key="large", Body=body)


def get_large(side: Side, size: int) -> None:
    body = side.s3.get_object(Bucket="bench", Key="large")["Body"]
    assert sum(len(chunk) for chunk in body.iter_chunks(CHUNK)) == size


def put_large_in_parts(side: Side, source: Path) -> None:
    here: dict[str, Any] = {"Bucket": "bench", "Key": "parts"}
    here["UploadId"] = side.s3.create_multipart_upload(**here)["UploadId"]
    parts = []
    with open(source, "rb") as file:
        while data := file.read(PART):
            number = len(parts) + 1
            etag = side.s3.upload_part(PartNumber=number, Body=data, **here)["ETag"]
            parts.append({"PartNumber": number, "ETag": etag})
    side.s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **here)


def row(what: str, ours: Side, theirs: Side) -> dict[str, object]:
    """The ratio of the sums: each side did the same, in turns."""
    mine, other = ours.seconds[what], theirs.seconds[what]
    return {
        "what": what,
        "region_s": round(sum(mine), 2),
        "moto_s": round(sum(other), 2),
        "ratio": round(sum(other) / sum(mine), 2),
        "median_ratio": round(
            statistics.median(b / a for a, b in zip(mine, other, strict=True)), 2
        ),
        "turns": len(mine),
        "region_cpu_s": round(ours.cpu[what], 2),
        "moto_cpu_s": round(theirs.cpu[what], 2),
        "cpu_ratio": round(theirs.cpu[what] / max(ours.cpu[what], 0.01), 2),
        "client_cpu_s": round((ours.client_cpu[what] + theirs.client_cpu[what]) / 2, 2),
        "region_growth_mib": ours.growth[what] >> 20,
        "moto_growth_mib": theirs.growth[what] >> 20,
    }


@contextmanager
def region(folder: str) -> Iterator[Side]:
    port = free_port()
    command = [sys.executable, "-c", REGION, f"{folder}/state", str(port)]
    with server("region", command, port) as side:
        keys = read_keys(Path(folder, "state"))
        assert keys is not None
        side.connect(keys)
        yield side


@contextmanager
def moto() -> Iterator[Side]:
    python = os.environ.get("BYOC_MOTO_PYTHON")
    if python is None:
        sys.exit("Set BYOC_MOTO_PYTHON: see scripts/moto-env")
    port = free_port()
    with server("moto", [python, "-m", "moto.server", "-p", str(port)], port) as side:
        side.connect(Keys("any", "any"))
        yield side


@contextmanager
def server(name: str, command: list[str], port: int) -> Iterator[Side]:
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while not answers(url):
            assert process.poll() is None, f"{name} ended"
            assert time.monotonic() < deadline, f"{name} does not answer"
            time.sleep(0.1)
        yield Side(name, url, process.pid)
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def cpu_seconds(pid: int) -> float:
    """Return processor seconds of the server, which do not depend on who else uses the machine."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak(pid: int) -> int:
    """Bytes that the process had resident at most, so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


if __name__ == "__main__":
    main()
