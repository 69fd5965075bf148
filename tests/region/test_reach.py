"""What user code in a container does with its region: SDKs, S3, the job's own source, its image."""

from __future__ import annotations

import io
import json
import os
import tarfile
import textwrap
from contextlib import contextmanager, suppress

import pytest
from botocore.exceptions import ClientError, WaiterError
from tests.region.conftest import CheckedRegion

from sagemaker_byoc.region.clients import make_client
from sagemaker_byoc.region.engines import docker

pytestmark = pytest.mark.slow
SECONDS = 120
BUCKET = "sagemaker-us-east-1-000000000000"
ASKS = """
    import os, sys
    if "AWS_ENDPOINT_URL" not in os.environ:
        sys.exit("no way to the region")
    import botocore.session
    client = lambda name: botocore.session.Session().create_client(name, region_name="us-east-1")
    arn = client("sts").get_caller_identity()["Arn"]
    if "AWS_DATA_PATH" in os.environ:  # as get_execution_role() asks
        url = "https://sts.us-east-1.amazonaws.com"
        sts = botocore.session.Session().create_client("sts", "us-east-1", endpoint_url=url)
        print("the SDK is told", sts.get_caller_identity()["Arn"])
    body = client("s3").get_object(Bucket="BUCKET", Key="given")["Body"].read()
    host = os.environ["SM_CURRENT_HOST"]
    client("s3").put_object(Bucket="BUCKET", Key="made/" + host, Body=body.upper())
    open("/opt/ml/model/arn", "w").write(arn)
    print("asked as", arn)
""".replace("BUCKET", BUCKET)


@pytest.fixture(
    scope="module", params=["process", pytest.param("docker", marks=pytest.mark.docker)]
)
def region(request):
    with CheckedRegion(engine=request.param) as region:
        region.client("s3").put_object(Bucket=BUCKET, Key="given", Body=b"text")
        yield region


def archive(**files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"{name}.py")
            content = textwrap.dedent(text).encode()
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def run(region, name, *, image="byoc-train", hosts=1, **more):
    """The job's description at its end, and its log."""
    sagemaker = region.client("sagemaker")
    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": image, "TrainingInputMode": "File"},
        RoleArn="arn:aws:iam::000000000000:role/service-role/MyRole",
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": hosts, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": SECONDS},
        **more,
    )
    waiter = sagemaker.get_waiter("training_job_completed_or_stopped")
    with suppress(WaiterError):  # of a job that failed, which is looked at
        waiter.wait(TrainingJobName=name, WaiterConfig={"Delay": 1, "MaxAttempts": SECONDS})
    events = region.client("logs").filter_log_events(
        logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{name}/"
    )["events"]
    log = "\n".join(event["message"] for event in events)
    return sagemaker.describe_training_job(TrainingJobName=name), log


@pytest.mark.parametrize("hosts", [1, 2])
def test_code_in_s3_asks_the_region_as_its_role(region, hosts):
    """As `source_dir` of SDK 2 sends it. Two hosts have a network of their own."""
    s3 = region.client("s3")
    s3.put_object(Bucket=BUCKET, Key="code.tar.gz", Body=archive(train=ASKS))
    parameters = {
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": f"s3://{BUCKET}/code.tar.gz",
    }
    job, log = run(region, f"asks-{hosts}", hosts=hosts, HyperParameters=parameters)
    assert job["TrainingJobStatus"] == "Completed", log
    assert "asked as arn:aws:sts::000000000000:assumed-role/MyRole/SageMaker" in log
    assert ("the SDK is told arn:" in log) == (region.engine == "process")
    for host in range(1, hosts + 1):
        made = s3.get_object(Bucket=BUCKET, Key=f"made/algo-{host}")["Body"].read()
        assert made == b"TEXT"
        s3.delete_object(Bucket=BUCKET, Key=f"made/algo-{host}")


def test_network_isolation_cuts_it_off(region):
    """No URL, no keys, and no route: each address of the machine is tried."""
    port = region.url.rpartition(":")[2]
    tries = f"""
        import os, socket, sys
        found = [name for name in os.environ if name.startswith("AWS_") and "REGION" not in name]
        for address in ("127.0.0.1", "172.17.0.1"):
            try:
                socket.create_connection((address, {port}), 3)
                found.append(address)
            except OSError:
                pass
        sys.exit(f"reached {{found}}" if found else 0)
    """
    source = f"s3://{BUCKET}/source/"
    region.client("s3").put_object(
        Bucket=BUCKET, Key="source/train.py", Body=textwrap.dedent(tries).encode()
    )
    code = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": source}}
    channels = [{"ChannelName": "code", "DataSource": code}]
    job, log = run(region, "isolated", EnableNetworkIsolation=True, InputDataConfig=channels)
    assert job["TrainingJobStatus"] == "Completed", log


HANDLER = """
    import os, urllib.error, urllib.request
    def model_fn(folder): return os.environ["AWS_ENDPOINT_URL"], os.environ["AWS_SESSION_TOKEN"]
    def input_fn(body, kind): return body
    def predict_fn(body, model):
        try:
            return urllib.request.urlopen(model[0] + "/", timeout=10).status
        except urllib.error.HTTPError as error:
            return error.code
    def output_fn(status, accept): return str(status), "text/plain"
"""


def test_an_endpoint_reaches_the_region(region):
    """And is refused there without its keys, which it has."""
    s3, sagemaker = region.client("s3"), region.client("sagemaker")
    s3.put_object(Bucket=BUCKET, Key="model.tar.gz", Body=archive(**{"code/inference": HANDLER}))
    container = {"Image": "byoc-serve", "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"}
    sagemaker.create_model(
        ModelName="asks", PrimaryContainer=container, ExecutionRoleArn=region.account.role
    )
    variant = {"VariantName": "v", "ModelName": "asks", "InitialInstanceCount": 1,
               "InstanceType": "ml.m5.large"}  # fmt: skip
    sagemaker.create_endpoint_config(EndpointConfigName="asks", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="asks", EndpointConfigName="asks")
    waiter = sagemaker.get_waiter("endpoint_in_service")
    waiter.wait(EndpointName="asks", WaiterConfig={"Delay": 1, "MaxAttempts": SECONDS})
    runtime = make_client("sagemaker-runtime", region.url, region.keys)
    answer = runtime.invoke_endpoint(EndpointName="asks", Body=b"x", ContentType="text/plain")
    assert answer["Body"].read() == b"403"


@pytest.mark.docker
def test_an_image_runs_from_the_regions_ecr(tmp_path):
    """By tag, by digest, and under AWS's own host name, though the engine has it no longer."""
    with CheckedRegion(engine="docker") as region, pushed(region, tmp_path) as (digest, host):
        aws = "000000000000.dkr.ecr.us-east-1.amazonaws.com"
        names = [f"{aws}/mine:1", f"{aws}/mine@{digest}", f"{host}/mine:1", f"{host}/mine@{digest}"]
        for number, name in enumerate(names):
            job, log = run(region, f"mine-{number}", image=name)
            assert job["TrainingJobStatus"] == "Completed", log
            assert "ran from ECR" in log
        with pytest.raises(ClientError, match="Cannot find image"):
            run(region, "absent", image=f"{aws}/mine:2")


@contextmanager
def pushed(region, folder):
    """An image that only prints, in the region's registry alone; its digest and that host."""
    host = region.url.removeprefix("http://")
    ecr = region.client("ecr")
    ecr.create_repository(repositoryName="mine")
    (token,) = ecr.get_authorization_token()["authorizationData"]
    config = {"auths": {host: {"auth": token["authorizationToken"]}}}
    (folder / "config.json").write_text(json.dumps(config))
    name = f"{host}/mine:1"
    text = f'FROM {os.environ.get("BASE", "byoc-base")}\nENTRYPOINT ["echo", "ran from ECR"]\n'
    docker.run("build", "--tag", name, "-", timeout=SECONDS, data=text.encode())
    try:
        docker.run("--config", str(folder), "push", name, timeout=SECONDS)
        docker.run("rmi", "--force", name)
        (image,) = ecr.describe_images(repositoryName="mine")["imageDetails"]
        yield image["imageDigest"], host
    finally:
        listing = ["images", "--quiet", "--no-trunc", f"--filter=reference={host}/mine"]
        if found := docker.run(*listing).split():
            docker.run("rmi", "--force", *sorted(set(found)))
