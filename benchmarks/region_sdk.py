"""Launch scripts of SDK 2 and SDK 3: how long fit and deploy take, beside moto, which runs nothing.

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

# Each script gets the images for training and serving and a folder with data as its words.
TRAIN_3 = """
import os, sys, time
from sagemaker.core.training.configs import Compute, InputData
from sagemaker.train import ModelTrainer
trainer = ModelTrainer(
    training_image=sys.argv[1], role=os.environ["SAGEMAKER_ROLE"], hyperparameters=HYPERPARAMETERS,
    compute=Compute(instance_type="ml.m5.large", instance_count=1), base_job_name="bench",
)
begin = time.monotonic()
data = [InputData(channel_name="train", data_source=sys.argv[3])]
trainer.train(input_data_config=data, wait=True, logs=LOGS)
print("seconds", time.monotonic() - begin)
"""
DEPLOY_3 = """
import os, sys, time
from sagemaker.core.resources import Endpoint, EndpointConfig, Model
from sagemaker.core.shapes import ContainerDefinition, ProductionVariant
name = f"bench-{time.time_ns()}"
container = ContainerDefinition(image=sys.argv[2])
variant = ProductionVariant(
    variant_name="AllTraffic", model_name=name, initial_instance_count=1,
    instance_type="ml.m5.large",
)
begin = time.monotonic()
Model.create(
    model_name=name, primary_container=container, execution_role_arn=os.environ["SAGEMAKER_ROLE"],
)
EndpointConfig.create(endpoint_config_name=name, production_variants=[variant])
endpoint = Endpoint.create(endpoint_name=name, endpoint_config_name=name)
endpoint.wait_for_status("InService")
print("seconds", time.monotonic() - begin)
endpoint.delete()
"""
FIT_2 = """
import os, sys, time
from sagemaker.estimator import Estimator
estimator = Estimator(
    image_uri=sys.argv[1], role=os.environ["SAGEMAKER_ROLE"], instance_count=1,
    instance_type="ml.m5.large", base_job_name="bench", hyperparameters=HYPERPARAMETERS,
)
begin = time.monotonic()
estimator.fit({"train": estimator.sagemaker_session.upload_data(sys.argv[3])}, logs=LOGS)
print("seconds", time.monotonic() - begin)
"""
DEPLOY_2 = """
import os, sys, time
from sagemaker.model import Model
model = Model(image_uri=sys.argv[2], role=os.environ["SAGEMAKER_ROLE"])
begin = time.monotonic()
model.deploy(
    initial_instance_count=1, instance_type="ml.m5.large", endpoint_name=f"bench-{time.time_ns()}",
    endpoint_logging=LOGS,
)
print("seconds", time.monotonic() - begin)
model.sagemaker_session.delete_endpoint(model.endpoint_name)
"""
PROCESS = """
import os, sys, time
import boto3
client = boto3.client("sagemaker")
waiter = client.get_waiter("processing_job_completed_or_stopped")
def process(name):
    client.create_processing_job(
        ProcessingJobName=name, RoleArn=os.environ["SAGEMAKER_ROLE"],
        AppSpecification={"ImageUri": sys.argv[1], "ContainerEntrypoint": ["true"]},
        ProcessingResources={"ClusterConfig": {
            "InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}},
    )
    waiter.wait(ProcessingJobName=name)
    assert client.describe_processing_job(ProcessingJobName=name)["ProcessingJobStatus"] == (
        "Completed")
process(f"bench-{time.time_ns()}")  # the first request of a client loads AWS's models
begin = time.monotonic()
process(f"bench-{time.time_ns()}")
print("seconds", time.monotonic() - begin)
"""
PROCESS_3 = """
import os, sys, time
from sagemaker.core.processing import ScriptProcessor
from sagemaker.core.shapes import ProcessingInput, ProcessingS3Input
processor = ScriptProcessor(
    image_uri=sys.argv[1], command=["python3"], role=os.environ["SAGEMAKER_ROLE"],
    instance_count=1, instance_type="ml.m5.large", base_job_name="bench",
)
source = ProcessingS3Input(s3_uri=sys.argv[3], local_path="/opt/ml/processing/input/data",
                           s3_data_type="S3Prefix", s3_input_mode="File")
open(sys.argv[3] + "/../s.py", "w").write("print(1)")
begin = time.monotonic()
processor.run(code=sys.argv[3] + "/../s.py", wait=True, logs=LOGS,
              inputs=[ProcessingInput(input_name="data", s3_input=source)])
print("seconds", time.monotonic() - begin)
"""
WORKLOADS = {  # SDK, script, its arguments, seconds that the job takes, whether moto can do it
    "SDK 3, train, empty job": ("sdk3", TRAIN_3, False, 0, True),
    "SDK 3, train, job of 8 s": ("sdk3", TRAIN_3, False, 8, False),
    "SDK 3, train with logs, job of 8 s": ("sdk3", TRAIN_3, True, 8, False),
    "SDK 3, Endpoint.create and wait": ("sdk3", DEPLOY_3, False, 0, False),
    "SDK 2, fit, empty job": ("sdk2", FIT_2, False, 0, True),
    "SDK 2, fit with logs, empty job": ("sdk2", FIT_2, True, 0, False),
    "SDK 2, fit with logs, job of 8 s": ("sdk2", FIT_2, True, 8, False),
    "SDK 2, deploy": ("sdk2", DEPLOY_2, False, 0, False),
    "SDK 2, deploy with logs": ("sdk2", DEPLOY_2, True, 0, False),
    "boto3, processing job and its waiter, empty job": ("sdk3", PROCESS, False, 0, True),
    "SDK 3, ScriptProcessor with logs, empty job": ("sdk3", PROCESS_3, True, 0, False),
}
PROGRAM = """
import json, pathlib, time
path = pathlib.Path("/opt/ml/input/config/hyperparameters.json")
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--seconds", type=float, default=0)
time.sleep(parser.parse_known_args()[0].seconds)
"""
SERVE = """
def model_fn(model_dir): return None
def input_fn(body, content_type): return body
def predict_fn(data, model): return data
def output_fn(prediction, accept): return prediction, "application/octet-stream"
"""
BOUND = 180  # seconds, each start and each script


def byoc(*words: object) -> str:
    command = [sys.executable, "-m", "sagemaker_byoc.cli", *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=BOUND).stdout


@contextmanager
def region(folder: Path) -> Iterator[dict[str, str]]:
    for kind, name, text in (("train", "train.py", PROGRAM), ("serve", "inference.py", SERVE)):
        (folder / kind).mkdir()
        (folder / kind / name).write_text(text)
    state = folder / "state"
    where = ("--engine", "process", "--state", state)
    byoc("local", "up", "--detach", "--port", 0, *where)
    try:
        for kind in ("train", "serve"):
            byoc("build", kind, folder / kind, "-t", f"bench-{kind}", *where)
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


def launch(sdks: Path, workload: str, data: Path, variables: dict[str, str]) -> float:
    sdk, script, has_logs, seconds, _ = WORKLOADS[workload]
    inherited = {name: os.environ[name] for name in ("HOME", "PATH")}
    # moto has no SimulatePrincipalPolicy, with which the SDK looks at the role.
    environ = {**inherited, **variables, "SAGEMAKER_VALIDATE_ROLE": "false"}
    images = [f"000000000000.dkr.ecr.us-east-1.amazonaws.com/bench-{kind}:latest"
              for kind in ("train", "serve")]  # fmt: skip
    script = script.replace("LOGS", str(has_logs))
    script = script.replace("HYPERPARAMETERS", repr({"seconds": seconds}))
    command = [str(sdks / sdk / "bin/python"), "-c", script, *images, str(data)]
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=BOUND, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout.split("seconds")[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sdk", type=Path, required=True)
    parser.add_argument("--moto", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="part of the names of the workloads")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as name:
        folder = Path(name)
        data = folder / "data"
        data.mkdir()
        (data / "rows.csv").write_text("1,2\n" * 1000)
        with region(folder) as ours:
            for number in range(arguments.repeats):
                for workload, (*_, can_moto) in WORKLOADS.items():
                    if arguments.only not in workload:
                        continue
                    sides = {"region": launch(arguments.sdk, workload, data, ours)}
                    if can_moto and arguments.moto is not None:
                        with moto(arguments.moto, ours) as theirs:
                            sides["moto"] = launch(arguments.sdk, workload, data, theirs)
                    for side, seconds in sides.items():
                        times.setdefault(f"{workload} | {side}", []).append(seconds)
                    print(number, workload, sides, flush=True)
    print("| call | side | median, s | fastest to slowest, s |")
    print("|---|---|---|---|")
    for key, found in times.items():
        print(f"| {key} | {statistics.median(found):.2f} | {min(found):.2f} to {max(found):.2f} |")
    if arguments.json is not None:
        document = {**times, "load": os.getloadavg()[0], "cpus": os.cpu_count()}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
