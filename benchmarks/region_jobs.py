"""What the region adds to a training job: from CreateTrainingJob to Completed, beyond the program.

    benchmarks/region_jobs.py [--engine process|docker] [--repeats N] [--crowd N] [--json FILE]

The region is a process of its own; the client is botocore over HTTP. The same empty program is run
in turn as a job, and by itself: on the process engine by the toolkit's own command, on Docker by
`docker run`. Report: benchmarks/region_jobs.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sagemaker_byoc.region.clients import make_client
from sagemaker_byoc.region.core.account import read_keys

REGION = """
import sys
from pathlib import Path
from sagemaker_byoc.region.region import Region
with Region(Path(sys.argv[1]), engine=sys.argv[2]) as region:
    print(region.url, flush=True)
    sys.stdin.read()
"""
BUCKET = "bench"
ENDED = {"Completed", "Failed", "Stopped"}


@contextmanager
def region(state: Path, engine: str) -> Iterator[str]:
    command = [sys.executable, "-c", REGION, str(state), engine]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        keys = read_keys(state)
        assert keys is not None
        os.environ.update(keys.environ)  # which the clients here take
        yield url
        process.stdin.close()


def request(name: str, image: str) -> dict[str, Any]:
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": {"TrainingImage": image, "TrainingInputMode": "File"},
        "RoleArn": "arn:aws:iam::000000000000:role/service-role/SageMakerRole",
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
        "ResourceConfig": {
            "InstanceType": "ml.m5.large",
            "InstanceCount": 1,
            "VolumeSizeInGB": 1,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
    }


def wait(client: Any, name: str) -> dict[str, Any]:
    """Describe again and again; the region holds each answer until there is news."""
    while True:
        job: dict[str, Any] = client.describe_training_job(TrainingJobName=name)
        if job["TrainingJobStatus"] in ENDED:
            assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
            return job


def timed_job(client: Any, name: str, image: str) -> float:
    begin = time.monotonic()
    client.create_training_job(**request(name, image))
    wait(client, name)
    return time.monotonic() - begin


def timed_alone(engine: str, image: str, folder: Path) -> float:
    """The same program without a region."""
    if engine == "docker":
        command = [os.environ.get("DOCKER") or "docker", "run", "--rm", image, "train"]
        variables = dict(os.environ)
    else:
        command = [sys.executable, "-I", "-m", "sagemaker_byoc.training", "train"]
        variables = {
            "PATH": os.environ["PATH"],
            "SAGEMAKER_BASE_DIR": str(folder / "ml"),
            "BYOC_PROGRAM_DIR": str(folder / "program"),
        }
        (folder / "ml" / "model").mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    subprocess.run(command, env=variables, check=True, capture_output=True)
    return time.monotonic() - begin


def crowd(client: Any, image: str, count: int) -> float:
    """Seconds from the first request to the last job's end."""
    begin = time.monotonic()
    names = [f"crowd-{number}" for number in range(count)]
    for name in names:
        client.create_training_job(**request(name, image))
    for name in names:
        wait(client, name)
    return time.monotonic() - begin


def measure(engine: str, repeats: int, count: int, folder: Path) -> dict[str, Any]:
    program = folder / "program"
    program.mkdir()
    (program / "train.py").write_text("")
    state = folder / "state"
    tag = "byoc-bench-empty"
    build = [sys.executable, "-m", "sagemaker_byoc.cli", "build", "train", str(program), "-t", tag]
    extra = ["--state", str(state)] if engine == "process" else []
    subprocess.run([*build, "--engine", engine, *extra], check=True, capture_output=True)
    with region(state, engine) as url:
        client = make_client("sagemaker", url)
        make_client("s3", url).create_bucket(Bucket=BUCKET)
        timed_job(client, "warm-up", tag)
        timed_alone(engine, tag, folder)
        jobs, alone = [], []
        for number in range(repeats):
            jobs.append(timed_job(client, f"job-{number}", tag))
            alone.append(timed_alone(engine, tag, folder))
        crowded = crowd(client, tag, count)
    return {"engine": engine, "job": jobs, "alone": alone, "crowd": {"jobs": count, "s": crowded}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=["process", "docker"], default="process")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--crowd", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as folder:
        found = measure(arguments.engine, arguments.repeats, arguments.crowd, Path(folder))
    found |= {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
    }
    for what in ("job", "alone"):
        times = sorted(found[what])
        print(
            f"{arguments.engine} {what}: median {statistics.median(times):.3f} s, "
            f"{times[0]:.3f} to {times[-1]:.3f}"
        )
    added = statistics.median(found["job"]) - statistics.median(found["alone"])
    print(f"added: {added:.3f} s; {arguments.crowd} at once: {found['crowd']['s']:.1f} s")
    if arguments.json is not None:
        old = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
        arguments.json.write_text(json.dumps({**old, arguments.engine: found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
