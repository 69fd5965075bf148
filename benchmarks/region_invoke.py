"""`/invocations` through the region, beside the same container asked directly.

Run: .venv/bin/python benchmarks/region_invoke.py      (writes region_invoke.json beside itself)
     .venv/bin/python benchmarks/region_invoke.py --endpoints 5 --seconds 300

The client is wrk, on the same machine. Both ways lead to one container, and take turns in one run.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from sagemaker_byoc.region.clients import make_client
from sagemaker_byoc.region.core.account import Keys, read_keys

HERE = Path(__file__).parent
DIGITS = HERE.parent / "examples" / "digits"
sys.path.insert(0, str(DIGITS))
from serving_load import LUA  # noqa: E402

from network import DigitNet  # noqa: E402

CONNECTIONS = (1, 16)
WAYS = ("direct", "region")
TICK = os.sysconf("SC_CLK_TCK")
ROLE = "arn:aws:iam::000000000000:role/service-role/SageMakerRole"
REGION = """
import json, sys
from sagemaker_byoc.region.region import Region
with Region(sys.argv[1]) as region:
    print(json.dumps({"url": region.url}), flush=True)
    sys.stdin.read()
"""
ECHO = b"""
def model_fn(model_dir): return None
def input_fn(body, content_type): return body
def predict_fn(data, model): return data
def output_fn(prediction, accept): return prediction, "application/octet-stream"
"""
HEADERS_LUA = """
for line in io.lines(os.getenv("HEADERS")) do
  local name, value = line:match("^(.-): (.*)$"); wrk.headers[name] = value
end
"""


def echo_model() -> bytes:
    return _archive({"code/inference.py": ECHO})


def digits_model() -> bytes:
    """The example's network as it is before training: the same arithmetic."""
    weights = io.BytesIO()
    torch.save(DigitNet().state_dict(), weights)
    code = {f"code/{name}": (DIGITS / name).read_bytes() for name in ("inference.py", "network.py")}
    return _archive({"model.pt": weights.getvalue(), **code})


WORKLOADS: dict[str, tuple[Any, bytes, str]] = {
    "echo": (echo_model, b"x" * 200, "application/octet-stream"),
    "digits": (digits_model, json.dumps([[0.5] * 64]).encode(), "application/json"),
}


def _archive(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return data.getvalue()


@contextmanager
def region() -> Iterator[tuple[str, int]]:
    """URL and process id of a region in a process of its own, ended at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="byoc-") as state,
        subprocess.Popen(
            [sys.executable, "-c", REGION, state], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        keys = read_keys(Path(state))
        assert keys is not None
        os.environ.update(keys.environ)  # which the clients here take
        yield url, process.pid
        process.stdin.close()
        process.wait(120)


def deploy(url: str, names: list[str], workload: str) -> None:
    s3, sagemaker = make_client("s3", url), make_client("sagemaker", url)
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket="models")
    s3.put_object(Bucket="models", Key=f"{workload}/model.tar.gz", Body=WORKLOADS[workload][0]())
    container = {"Image": "byoc-serve", "ModelDataUrl": f"s3://models/{workload}/model.tar.gz"}
    sagemaker.create_model(ModelName=workload, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    variant = {"VariantName": "AllTraffic", "ModelName": workload, "InitialInstanceCount": 1}
    variant["InstanceType"] = "ml.m5.large"
    sagemaker.create_endpoint_config(EndpointConfigName=workload, ProductionVariants=[variant])
    for name in names:
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=workload)
    for name in names:
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name)


def delete(url: str, names: list[str]) -> None:
    sagemaker = make_client("sagemaker", url)
    for name in names:
        sagemaker.delete_endpoint(EndpointName=name)
    for name in names:
        sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name)


def tree(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in task.read_text().split():
                found += tree(int(child))
    return found


def container_port(pid: int) -> int:
    """Where the region's one container listens, as its environment says."""
    for each in tree(pid):
        found = re.search(
            rb"SAGEMAKER_BIND_TO_PORT=(\d+)", Path(f"/proc/{each}/environ").read_bytes()
        )
        if found is not None:
            return int(found[1])
    raise AssertionError("no container")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def all_cpu_seconds(pid: int) -> float:
    """Return the CPU time of the region, its containers, and the clients that have ended."""
    clients = resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(map(cpu_seconds, tree(pid))) + clients.ru_utime + clients.ru_stime


def open_files(pid: int) -> int:
    return len([*Path(f"/proc/{pid}/fd").iterdir()])


class Wrk:
    """One workload's body, as files that wrk reads."""

    def __init__(self, folder: Path, workload: str) -> None:
        _, body, content_type = WORKLOADS[workload]
        (folder / "body").write_bytes(body)
        (folder / "wrk.lua").write_text(HEADERS_LUA + LUA)
        self._script = str(folder / "wrk.lua")
        self._body, self._type = body, content_type
        self._folder, self._started = folder, 0
        self._environ = {
            **os.environ,
            "BODY": str(folder / "body"),
            "TYPE": content_type,
        }

    def _sign(self, url: str) -> Path:
        """Write one signature for all requests, which are alike; it is good for 15 minutes."""
        keys = Keys(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
        request = AWSRequest("POST", url, {"Content-Type": self._type}, self._body)
        client = Credentials(keys.access_key, keys.secret_key)
        SigV4Auth(client, "sagemaker", "us-east-1").add_auth(request)
        self._started += 1  # several may start at the same time
        headers = self._folder / f"headers-{self._started}"
        headers.write_text("".join(f"{n}: {v}\n" for n, v in request.headers.items()))
        return headers

    def start(self, url: str, connections: int, seconds: int) -> subprocess.Popen[str]:
        headers = self._sign(url)
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--latency",
            "--timeout=30s",
        ]
        return subprocess.Popen(
            [*command, "--latency", "-s", self._script, url],
            env={**self._environ, "HEADERS": str(headers)},
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, url: str, connections: int, seconds: int) -> dict[str, float]:
        return result(self.start(url, connections, seconds))


def result(process: subprocess.Popen[str]) -> dict[str, float]:
    text, _ = process.communicate()
    line = next(line for line in text.splitlines() if line.startswith("WRK"))
    row: dict[str, float] = json.loads(line[4:])
    return {**row, "rps": row["n"] / row["seconds"]}


def compare(workload: str, rounds: int, seconds: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with region() as (url, pid), tempfile.TemporaryDirectory() as folder:
        deploy(url, ["measured"], workload)
        port = container_port(pid)
        ways = {
            "direct": f"http://127.0.0.1:{port}/invocations",
            "region": f"{url}/endpoints/measured/invocations",
        }
        wrk = Wrk(Path(folder), workload)
        for target in ways.values():
            wrk.run(target, 4, 1)
        for number in range(rounds):
            for connections in CONNECTIONS:
                order = list(ways.items())[:: 1 if number % 2 else -1]
                for way, target in order:
                    before, all_before = cpu_seconds(pid), all_cpu_seconds(pid)
                    row: dict[str, Any] = wrk.run(target, connections, seconds)
                    row["region_cpu_us"] = 1e6 * (cpu_seconds(pid) - before) / max(1, row["n"])
                    more = all_cpu_seconds(pid) - all_before
                    row["all_cpu_us"] = 1e6 * more / max(1, row["n"])
                    row |= {"workload": workload, "way": way, "connections": connections}
                    row["load"] = os.getloadavg()[0]
                    rows.append(row)
                    print(row, flush=True)
        delete(url, ["measured"])
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Medians over the rounds."""
    head = ("workload", "connections", "direct req/s", "region req/s", "ratio")
    head += (
        "direct p50 / p99 ms",
        "region p50 / p99 ms",
        "p50 more, ms",
        "region CPU µs",
        "all CPU µs, direct / region",
        "ratio by CPU",
        "errors",
    )
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for workload in dict.fromkeys(row["workload"] for row in rows):
        for connections in CONNECTIONS:
            mine = [row for row in rows if row["workload"] == workload]
            mine = [row for row in mine if row["connections"] == connections]

            def of(way: str, key: str, mine: list[dict[str, Any]] = mine) -> float:
                return statistics.median(row[key] for row in mine if row["way"] == way)

            cells = [workload, str(connections)]
            cells += [f"{of('direct', 'rps'):,.0f}", f"{of('region', 'rps'):,.0f}"]
            cells += [f"{100 * of('region', 'rps') / of('direct', 'rps'):.0f} %"]
            cells += [
                f"{of(way, 'p50'):.2f} / {of(way, 'p99'):.1f}" for way in ("direct", "region")
            ]
            cells += [f"{of('region', 'p50') - of('direct', 'p50'):.2f}"]
            cells += [f"{of('region', 'region_cpu_us'):.0f}"]
            both = [of(way, "all_cpu_us") for way in WAYS]
            cells += [f"{both[0]:.0f} / {both[1]:.0f}", f"{100 * both[0] / both[1]:.0f} %"]
            cells += [f"{sum(row['errors'] for row in mine):.0f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def hold(count: int, seconds: int) -> dict[str, Any]:
    """`count` endpoints under load at once, then deleted: what was lost, and what was left."""
    names = [f"held-{number}" for number in range(count)]
    with region() as (url, pid), tempfile.TemporaryDirectory() as folder:
        wrk = Wrk(Path(folder), "echo")
        make_client("sagemaker", url).list_endpoints()
        files, processes = open_files(pid), len(tree(pid))
        deploy(url, names, "echo")
        loads = [wrk.start(f"{url}/endpoints/{name}/invocations", 4, seconds) for name in names]
        found = [result(load) for load in loads]
        during = open_files(pid)
        delete(url, names)
        deadline = time.monotonic() + 150  # the server keeps idle connections of clients for 120 s
        while open_files(pid) > files and time.monotonic() < deadline:
            time.sleep(1)
        return {
            "endpoints": count,
            "seconds": seconds,
            "requests": sum(row["n"] for row in found),
            "errors": sum(row["errors"] for row in found),
            "p99_ms": max(row["p99"] for row in found),
            "open_files": {"before": files, "under load": during, "after": open_files(pid)},
            "processes": {"before": processes, "after": len(tree(pid))},
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", type=int, default=0)
    parser.add_argument("--workloads", default="echo,digits")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    kept = json.loads(options.out.read_text()) if options.out.exists() else {}
    if options.endpoints:
        kept["held"] = hold(options.endpoints, options.seconds)
        print(json.dumps(kept["held"], indent=1))
    else:
        rows: list[dict[str, Any]] = []
        for workload in options.workloads.split(","):
            rows += compare(workload, options.rounds, options.seconds)
        kept["rows"] = rows
        print(table(rows))
    options.out.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
