"""Transform jobs with real containers: one that ends, and a region that is killed."""

from __future__ import annotations

import io
import os
import signal
import tarfile
from contextlib import suppress

import pytest
from botocore.exceptions import WaiterError
from tests.region.test_hosting import (
    BOUND,
    ENGINES,
    ROLE,
    children,
    is_running,
    region,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

PROGRAM = """
import os, time
def model_fn(model_dir): return None
def input_fn(body, content_type): return body.decode() if isinstance(body, bytes) else body
def predict_fn(text, model):
    if "slow" in text: time.sleep(300)
    if "exit" in text:
        top = os.getppid()
        below = open(f"/proc/{top}/task/{top}/children").read().split()
        for pid in [top, *(int(p) for p in below if int(p) != os.getpid()), os.getpid()]:
            os.kill(pid, 9)
    return text.upper()
def output_fn(prediction, accept): return prediction, "text/csv"
"""


class Transforms:
    """Objects and transform jobs of a region, as a script with boto3 makes them."""

    def __init__(self, client):
        self.s3, self.sagemaker, self.logs = client.s3, client.sagemaker, client.logs

    def prepare(self):
        """Make the bucket `data`, and in it the archive of a model `upper`."""
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w:gz") as tar:
            entry = tarfile.TarInfo("code/inference.py")
            entry.size = len(PROGRAM)
            tar.addfile(entry, io.BytesIO(PROGRAM.encode()))
        self.s3.create_bucket(Bucket="data")
        self.s3.put_object(Bucket="data", Key="model.tar.gz", Body=data.getvalue())
        container = {"Image": "byoc-serve", "ModelDataUrl": "s3://data/model.tar.gz"}
        self.sagemaker.create_model(
            ModelName="upper", PrimaryContainer=container, ExecutionRoleArn=ROLE
        )

    def put(self, **objects):
        for name, text in objects.items():
            self.s3.put_object(Bucket="data", Key=f"in/{name}.csv", Body=text.encode())

    def create(self, name, **more):
        source = {"S3DataType": "S3Prefix", "S3Uri": "s3://data/in/"}
        self.sagemaker.create_transform_job(
            TransformJobName=name,
            ModelName="upper",
            BatchStrategy="SingleRecord",
            TransformInput={
                "DataSource": {"S3DataSource": source},
                "ContentType": "text/csv",
                "SplitType": "Line",
            },
            TransformOutput={
                "S3OutputPath": f"s3://data/{name}",
                "Accept": "text/csv",
                "AssembleWith": "Line",
            },
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
            **more,
        )

    def end(self, name):
        waiter = self.sagemaker.get_waiter("transform_job_completed_or_stopped")
        with suppress(WaiterError):  # of a job that has failed
            waiter.wait(TransformJobName=name)
        return self.sagemaker.describe_transform_job(TransformJobName=name)

    def outputs(self, name):
        found = self.s3.list_objects_v2(Bucket="data", Prefix=f"{name}/").get("Contents", ())
        return {
            entry["Key"]: self.s3.get_object(Bucket="data", Key=entry["Key"])["Body"].read()
            for entry in found
        }


@pytest.mark.parametrize("engine", ENGINES)
def test_a_container_that_ends(engine, tmp_path):
    """The object that ends each container has no output, those before and after it have.

    On Docker the container stays: its first process can't be killed from within.
    """
    with region(tmp_path / "state", engine) as (process, client):
        jobs = Transforms(client)
        jobs.prepare()
        jobs.put(a="1,x\n2,y\n", b="3,x\n4,exit\n", c="5,z")
        jobs.create(
            "one",
            MaxConcurrentTransforms=1,  # an object that is sent at the same time would fail, too
            ModelClientConfig={"InvocationsMaxRetries": 1},
            DataProcessing={"InputFilter": "$[1]", "JoinSource": "Input"},
        )
        found = jobs.end("one")
        assert found["TransformJobStatus"] == "Failed"
        reason = found["FailureReason"]
        assert reason.startswith("AlgorithmError: See job logs for more information\ndata/in/b.csv")
        assert "data/in/c.csv" not in reason
        assert jobs.outputs("one") == {
            "one/a.csv.out": b"1,x,X\n2,y,Y\n",
            "one/c.csv.out": b"5,z,Z\n",
        }
        events = jobs.logs.filter_log_events(logGroupName="/aws/sagemaker/TransformJobs")["events"]
        lines = [event["message"] for event in events]
        ended = sum("it ended with exit code 137; a new one" in line for line in lines)
        assert ended == (2 if engine == "process" else 0)
        assert any("[sagemaker logs]: data/in/b.csv: " in line for line in lines)
        assert not children(process.pid)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_region_that_is_killed(engine, tmp_path):
    """Its job has failed when it comes back; no output is cut off, and no container is left."""
    state = tmp_path / "state"
    with region(state, engine) as (process, client):
        jobs = Transforms(client)
        jobs.prepare()
        jobs.put(a="1\n2\n", b="3\n" * 100 + "slow\n")
        jobs.create("one")
        wait_until(lambda: jobs.outputs("one"), "the output of the first object")
        before = children(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(BOUND)
    with region(state, engine) as (process, client):
        jobs = Transforms(client)
        found = jobs.sagemaker.describe_transform_job(TransformJobName="one")
        assert found["TransformJobStatus"] == "Failed"
        assert found["FailureReason"].startswith("InternalServerError: We encountered an internal")
        assert jobs.outputs("one") == {"one/a.csv.out": b"1\n2\n"}
        wait_until(lambda: not any(map(is_running, before)), "the end of the old containers")
        assert not [*(state / "s3" / ".new").iterdir()]
        jobs.put(b="3\n")
        jobs.create("two")
        assert jobs.end("two")["TransformJobStatus"] == "Completed"
        assert jobs.outputs("two") == {"two/a.csv.out": b"1\n2\n", "two/b.csv.out": b"3\n"}
        assert not children(process.pid)
