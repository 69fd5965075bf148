"""A launch script of SDK 3: how long it waits on the region, and on moto, which runs nothing.

    benchmarks/region_sdk.py --sdk FOLDER --moto FOLDER [--repeats N] [--json FILE]

The folders are those of scripts/clients-env and scripts/moto-env. Report: region_sdk.md.
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
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LAUNCH = """
import os, sys, time
from sagemaker.core.training.configs import Compute, InputData
from sagemaker.train import ModelTrainer
trainer = ModelTrainer(
    training_image=sys.argv[1], role=os.environ["SAGEMAKER_ROLE"],
    compute=Compute(instance_type="ml.m5.large", instance_count=1), base_job_name="bench",
)
begin = time.monotonic()
data = [InputData(channel_name="train", data_source=sys.argv[2])]
trainer.train(input_data_config=data, wait=True, logs=False)
print("seconds", time.monotonic() - begin)
"""
BOUND = 120  # seconds, each start and each script


def byoc(*words: object) -> str:
    command = [sys.executable, "-m", "sagemaker_byoc.cli", *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=BOUND).stdout


@contextmanager
def region(folder: Path) -> Iterator[dict[str, str]]:
    program = folder / "program"
    program.mkdir()
    (program / "train.py").write_text("")
    state = folder / "state"
    where = ("--engine", "process", "--state", state)
    byoc("local", "up", "--detach", "--port", 0, *where)
    try:
        byoc("build", "train", program, "-t", "bench", *where)
        variables = json.loads(byoc("local", "env", "--json", "--state", state))
        yield {name: value for name, value in variables.items() if value is not None}
    finally:
        byoc("local", "down", "--state", state)


@contextmanager
def moto(folder: Path, variables: dict[str, str]) -> Iterator[dict[str, str]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [str(folder / "bin/moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + BOUND
            while not answers(url):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield variables | {"AWS_ENDPOINT_URL": url}
        finally:
            process.kill()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/moto-api/", timeout=1):
            return True
    except OSError:
        return False


def launch(python: Path, image: str, data: Path, variables: dict[str, str]) -> float:
    inherited = {name: os.environ[name] for name in ("HOME", "PATH")}
    # moto has no SimulatePrincipalPolicy, with which the SDK looks at the role.
    environ = {**inherited, **variables, "SAGEMAKER_VALIDATE_ROLE": "false"}
    command = [str(python), "-c", LAUNCH, image, str(data)]
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=BOUND, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout.split("seconds")[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sdk", type=Path, required=True)
    parser.add_argument("--moto", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    python = arguments.sdk / "sdk3/bin/python"
    image = "000000000000.dkr.ecr.us-east-1.amazonaws.com/bench:latest"
    times: dict[str, list[float]] = {"region": [], "moto": []}
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as name:
        folder = Path(name)
        data = folder / "data"
        data.mkdir()
        (data / "rows.csv").write_text("1,2\n" * 1000)
        with region(folder) as ours, moto(arguments.moto, ours) as theirs:
            for _ in range(arguments.repeats):
                times["region"].append(launch(python, image, data, ours))
                times["moto"].append(launch(python, image, data, theirs))
    for side, found in times.items():
        low, high = min(found), max(found)
        print(f"{side}: median {statistics.median(found):.2f} s, {low:.2f} to {high:.2f}")
    if arguments.json is not None:
        document = {**times, "load": os.getloadavg()[0], "cpus": os.cpu_count()}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
