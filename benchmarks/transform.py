"""A transform of CSV lines, beside the same batches sent to the same container directly.

Run: .venv/bin/python benchmarks/transform.py           (writes transform.json beside itself)

Both ways send to one container of the region, with the same number of requests at a time, and take
turns in one run. Direct: http.client on kept connections, the bodies at hand, the answers thrown
away. Transform: the job's own code, from an object of the store to a stored output. Starting and
stopping the container is measured as a whole job.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from region_invoke import (
    WORKLOADS,
    _archive,
    container_port,
    delete,
    deploy,
    region,
)

from sagemaker_byoc.region.clients import make_client
from sagemaker_byoc.region.containers.http_pool import Pool
from sagemaker_byoc.region.core.threads import Threads, loop_factory
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.sagemaker.jobs.inputs import Item
from sagemaker_byoc.region.services.sagemaker.transform_jobs import splitting
from sagemaker_byoc.region.services.sagemaker.transform_jobs.requests import Sender
from sagemaker_byoc.region.services.sagemaker.transform_jobs.transform_plan import (
    Strategy,
    plan_of,
)
from sagemaker_byoc.region.services.sagemaker.transform_jobs.transformation import (
    Effective,
    ObjectResults,
    Transformation,
)

ROW_MODEL = b"""
def model_fn(model_dir): return None
def input_fn(body, content_type): return body.decode() if isinstance(body, bytes) else body
def predict_fn(text, model):
    return "".join("%d\\n" % len(row) for row in text.splitlines())
def output_fn(prediction, accept): return prediction, "text/csv"
"""
WORKLOADS["rows"] = (lambda: _archive({"code/inference.py": ROW_MODEL}), b"1,2,3\n", "text/csv")
JOIN = {"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"}
CASES: Mapping[str, dict[str, Any]] = {
    "1 batch": {"megabytes": 6, "concurrent": 1},
    "1 MB": {"megabytes": 1, "concurrent": 1},
    "1 MB, 4 at a time": {"megabytes": 1, "concurrent": 4},
    "1 MB, join and filters": {"megabytes": 1, "concurrent": 1, "processing": JOIN},
    "single records, 4 at a time": {"megabytes": 6, "concurrent": 4, "strategy": Strategy.SINGLE},
}


def lines(count: int) -> bytes:
    """64 grey values behind an id, as in examples/digits."""
    source = random.Random(1)
    row = (",".join(f"{source.random() * 16:.2f}" for _ in range(64)) for _ in range(count))
    return b"".join(f"{number},{text}\n".encode() for number, text in enumerate(row))


class Target:
    def __init__(self, port: int) -> None:
        self.pools = {"primary": Pool(port)}

    def suspect(self) -> None:
        raise AssertionError("the container failed")

    async def until_healthy(self) -> bool:
        return True


def transform(
    store: ObjectStore, port: int, case: Mapping[str, Any], loop: asyncio.Runner
) -> float:
    request = {
        "TransformJobName": "job",
        "ModelName": "rows",
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/in"}},
            "ContentType": "text/csv",
            "SplitType": "Line",
        },
        "TransformOutput": {
            "S3OutputPath": "s3://data/out",
            "Accept": "text/csv",
            "AssembleWith": "Line",
        },
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        "DataProcessing": case.get("processing"),
    }
    plan = plan_of(request)

    async def run() -> float:
        target, threads = Target(port), Threads("benchmark")
        job = Transformation(
            plan=plan,
            processing=plan.processing,
            limits=Effective(
                concurrent=case["concurrent"],
                megabytes=case["megabytes"],
                strategy=case.get("strategy", Strategy.MULTI),
            ),
            sender=Sender(
                target=target, content_type="text/csv", accept="text/csv", seconds=60, retries=0
            ),
            store=store,
            threads=threads,
            results=ObjectResults(),
            on_failure=lambda _, error: print(error),
        )
        began = time.perf_counter()
        await job.run([Item("data", "in", "in")])
        seconds = time.perf_counter() - began
        assert not job.results.failed
        target.pools["primary"].close()
        threads.close()
        return seconds

    return loop.run(run())


def bodies(data: bytes, case: Mapping[str, Any]) -> list[bytes]:
    """Return what the transform sends."""
    limit = case["megabytes"] * splitting.MEGABYTE
    is_single = case.get("strategy") is Strategy.SINGLE
    if case.get("processing") is None:
        found = splitting.batches([data], splitting.Split.LINE, limit, is_single=is_single)
    else:
        found = splitting.processed(
            [data], splitting.Split.LINE, limit, lambda row: row.partition(b",")[2], is_single=False
        )
    return [each.body for each in found]


def direct(port: int, sent: Sequence[bytes], concurrent: int) -> float:
    def send(connection: http.client.HTTPConnection, mine: Iterator[bytes]) -> None:
        for body in mine:
            headers = {"content-type": "text/csv", "accept": "text/csv"}
            connection.request("POST", "/invocations", body, headers)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()

    connections = [http.client.HTTPConnection("127.0.0.1", port) for _ in range(concurrent)]
    for connection in connections:
        connection.connect()
    rest = iter(sent)
    with ThreadPoolExecutor(concurrent) as threads:
        began = time.perf_counter()
        for each in [threads.submit(send, connection, rest) for connection in connections]:
            each.result()
        seconds = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return seconds


def whole_job(url: str, data: bytes) -> float:
    """Return the seconds of a job, with the start and the stop of its container."""
    s3, sagemaker = make_client("s3", url), make_client("sagemaker", url)
    s3.create_bucket(Bucket="rows")
    s3.put_object(Bucket="rows", Key="in", Body=data)
    began = time.perf_counter()
    sagemaker.create_transform_job(
        TransformJobName="whole",
        ModelName="rows",
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://rows/in"}},
            "ContentType": "text/csv",
            "SplitType": "Line",
        },
        TransformOutput={"S3OutputPath": "s3://rows/out", "AssembleWith": "Line"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    sagemaker.get_waiter("transform_job_completed_or_stopped").wait(TransformJobName="whole")
    return time.perf_counter() - began


def measure(count: int, rounds: int) -> dict[str, Any]:
    data = lines(count)
    rows = []
    with (
        region() as (url, pid),
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=loop_factory()) as loop,
    ):
        deploy(url, ["measured"], "rows")
        port = container_port(pid)
        store = ObjectStore(Path(folder))
        store.create_bucket("data")
        store.put_bytes("data", "in", data)
        for name, case in CASES.items():
            sent = bodies(data, case)
            for number in range(-1, rounds):
                ways = {
                    "direct": lambda c=case, b=sent: direct(port, b, c["concurrent"]),
                    "transform": lambda c=case: transform(store, port, c, loop),
                }
                for way in sorted(ways, reverse=bool(number % 2)):
                    seconds = ways[way]()
                    if number >= 0:  # the first is a warm-up
                        row = {"case": name, "way": way, "seconds": seconds, "requests": len(sent)}
                        rows.append({**row, "load": os.getloadavg()[0]})
                        print(rows[-1], flush=True)
        delete(url, ["measured"])
        return {"lines": count, "bytes": len(data), "rows": rows, "job": whole_job(url, data)}


def table(found: Mapping[str, Any]) -> str:
    text = [
        "| | requests | direct, ms | transform, ms | direct / transform |",
        "|---|---|---|---|---|",
    ]
    for case in CASES:
        mine = [row for row in found["rows"] if row["case"] == case]
        times = {
            way: [row["seconds"] for row in mine if row["way"] == way]
            for way in ("direct", "transform")
        }
        pairs = zip(times["direct"], times["transform"], strict=True)
        ratio = statistics.median(one / two for one, two in pairs)
        both = [1000 * statistics.median(each) for each in times.values()]
        cells = [case, str(mine[0]["requests"]), *(f"{each:.1f}" for each in both)]
        text.append(f"| {' | '.join([*cells, f'{100 * ratio:.0f} %'])} |")
    text.append(f"\nA whole job, with its container: {found['job']:.2f} s")
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    found = measure(options.lines, options.rounds)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
