"""What a processing container finds, how its command is made, and what becomes of its output."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from tests.support.waiting import wait_until
from tests.unit.region.services.sagemaker.jobs_region import BUCKET
from tests.unit.region.services.sagemaker.processing_jobs.conftest import (
    PROCESSING,
    given,
    taken,
)

pytestmark = pytest.mark.slow


def test_input_output_and_the_message(region):
    region.put("in/a.csv", b"1\n2\n")
    region.put("in/sub/b.csv", b"3\n")
    region.put("code/s.sh", b"cat $0 > /opt/ml/processing/out/script")
    found = region.run(
        "test -d /opt/ml/processing/empty && cp -r /opt/ml/processing/data /opt/ml/processing/out"
        " && sh /opt/ml/processing/data/code/s.sh && echo -n done > /opt/ml/output/message",
        inputs=[given("data", "in/"), given("code", "code/s.sh", f"{PROCESSING}/data/code/")],
        outputs=[taken("out", "result/"), taken("empty")],
    )
    assert found["ProcessingJobStatus"] == "Completed", found
    assert found["ExitMessage"] == "done"
    assert "FailureReason" not in found
    assert region.objects("result/") == [
        "result/data/a.csv",
        "result/data/code/s.sh",
        "result/data/sub/b.csv",
        "result/script",
    ]
    assert region.read("result/data/sub/b.csv") == b"3\n"
    assert found["ProcessingStartTime"] <= found["ProcessingEndTime"]
    assert not region.objects("empty")


def test_config_files(region):
    region.put("in/a")
    arn = region.create(
        "cd /opt/ml/config; tr -d '\\n' < processingjobconfig.json; echo;"
        " tr -d '\\n' < resourceconfig.json; echo; echo $STAGE $AWS_REGION",
        inputs=[given("data", "in/", S3DataDistributionType="ShardedByS3Key")],
        outputs=[taken("out")],
        Environment={"STAGE": "test"},
    )
    assert region.end()["ProcessingJobStatus"] == "Completed"
    job, resources, variables = region.log()
    document = json.loads(job)
    assert document["ProcessingJobArn"] == arn
    assert document["AppSpecification"]["ContainerArguments"] is None
    assert document["ProcessingOutputConfig"]["KmsKeyId"] is None
    assert document["ProcessingResources"]["ClusterConfig"] == {
        "InstanceCount": 1,
        "InstanceType": "ml.m5.large",
        "VolumeKmsKeyId": None,
        "VolumeSizeInGB": 1,
    }
    assert document["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400}
    assert document["ProcessingInputs"] == [
        {
            "AppManaged": False,
            "InputName": "data",
            "S3Input": {
                "LocalPath": "/opt/ml/processing/data",
                "S3CompressionType": "None",
                "S3DataDistributionType": "ShardedByS3Key",
                "S3DataType": "S3Prefix",
                "S3DownloadMode": "StartOfJob",
                "S3InputMode": "File",
                "S3Uri": f"s3://{BUCKET}/in/",
            },
        }
    ]
    assert json.loads(resources) == {
        "current_host": "algo-1",
        "hosts": ["algo-1"],
        "current_instance_type": "ml.m5.large",
    }
    assert variables == "test us-east-1"


@pytest.mark.parametrize(
    ("application", "printed"),
    [
        ({"ContainerEntrypoint": ["/bin/echo", "a b"]}, "a b"),
        ({"ContainerEntrypoint": ["/bin/echo"], "ContainerArguments": ["c", "d e"]}, "c d e"),
        ({"ContainerEntrypoint": ["python3", "-c", "import regex; print('ours')"]}, "ours"),
    ],
)
def test_the_command(region, application, printed):
    """The second one is found in the environment of the image's Python."""
    found = region.run(application=application)
    assert (found["ProcessingJobStatus"], region.log()) == ("Completed", [printed])


def test_a_relative_path_is_not_in_the_folder_of_the_region(region):
    found = region.run("echo x > relative-path && test -e /opt/ml/relative-path")
    assert found["ProcessingJobStatus"] == "Completed"
    assert not Path("relative-path").exists()


def test_a_failure(region):
    """With AWS's words; the message says more, and what there is of the output is kept."""
    found = region.run(
        "echo half > /opt/ml/processing/out/x; echo -n why > /opt/ml/output/message; exit 3",
        outputs=[taken("out")],
    )
    assert found["ProcessingJobStatus"] == "Failed"
    assert found["FailureReason"] == "AlgorithmError: See job logs for more information"
    assert region.log() == ["byoc: the job has failed with exit code 3"]
    assert found["ExitMessage"] == "why"
    assert region.read("out/x") == b"half\n"


def test_a_job_can_be_stopped_as_soon_as_it_is_seen(region, monkeypatch):
    """Another client may find it in a list before its creation is answered."""
    add = region.jobs.resources.add

    def add_and_stop(name, *rest):
        add(name, *rest)
        region.call("StopProcessingJob", ProcessingJobName=name)

    monkeypatch.setattr(region.jobs.resources, "add", add_and_stop)
    assert region.run("sleep 1000")["ProcessingJobStatus"] == "Stopped"


def test_stopped(region):
    region.create(
        'trap "echo -n bye > /opt/ml/output/message; echo x > /opt/ml/processing/out/x; exit 0"'
        " TERM; echo ready; while :; do sleep 0.02; done",
        outputs=[taken("out")],
    )
    region.wait_for_line("ready")
    region.call("StopProcessingJob", ProcessingJobName="job-1")
    found = region.end()
    assert (found["ProcessingJobStatus"], found["ExitMessage"]) == ("Stopped", "bye")
    assert "FailureReason" not in found
    assert region.objects("out/") == ["out/x"]


def test_what_a_script_prints_is_there_at_once(region):
    """As with both images, which set PYTHONUNBUFFERED."""
    code = "import time; print('begun'); time.sleep(600)"
    region.create(application={"ContainerEntrypoint": ["python3", "-c", code]})
    region.wait_for_line("begun")
    region.call("StopProcessingJob", ProcessingJobName="job-1")
    assert region.end()["ProcessingJobStatus"] == "Stopped"


def test_the_longest_runtime(region):
    found = region.run("sleep 60", StoppingCondition={"MaxRuntimeInSeconds": 1})
    assert found["ProcessingJobStatus"] == "Stopped"
    lasted = found["ProcessingEndTime"] - found["ProcessingStartTime"]
    assert 0.9 < lasted.total_seconds() < 60


def test_hosts(region):
    """They share the objects of one input, get all of the other, and know each other."""
    for name in "abc":
        region.put(f"in/{name}")
    found = region.run(
        "getent hosts algo-1 algo-2 > /dev/null && me=$(hostname) && cd /opt/ml/processing"
        " && ls part | tr '\\n' ' ' > out/$me && ls all | wc -l >> out/$me"
        " && mkdir out/folder && echo $me > out/folder/$me"
        " && echo $me > out/same && printf $me > /opt/ml/output/message",
        inputs=[
            given("part", "in/", S3DataDistributionType="ShardedByS3Key"),
            given("all", "in/"),
        ],
        outputs=[taken("out")],
        hosts=2,
    )
    assert found["ProcessingJobStatus"] == "Completed", found
    assert found["ExitMessage"] == "algo-1algo-2"
    assert region.read("out/algo-1") == b"a c 3\n"
    assert region.read("out/algo-2") == b"b 3\n"
    assert region.read("out/same") == b"algo-2\n"
    assert [line for line in region.log() if "was written by" in line] == [
        "byoc: /opt/ml/processing/out/same was written by algo-1 and by algo-2; algo-2's is kept"
    ]


def test_one_of_two_hosts_fails(region):
    found = region.run("[ $(hostname) = algo-2 ] && exit 4; sleep 60", hosts=2)
    assert found["ProcessingJobStatus"] == "Failed"
    assert found["FailureReason"] == "AlgorithmError: See job logs for more information"


def test_a_manifest(region):
    region.put("in/a", b"1")
    region.put("in/deep/b", b"2")
    region.put("m", json.dumps([{"prefix": f"s3://{BUCKET}/in/"}, "deep/b"]).encode())
    found = region.run(
        "cd /opt/ml/processing/data && find . -type f > ../out/names",
        inputs=[given("data", "m", S3DataType="ManifestFile")],
        outputs=[taken("out")],
    )
    assert found["ProcessingJobStatus"] == "Completed"
    assert region.read("out/names") == b"./deep/b\n"


@pytest.mark.parametrize("packed", [True, False])
def test_a_pipe(region, packed):
    region.put("in/a", gzip.compress(b"one\n") if packed else b"one\n")
    more = {"S3CompressionType": "Gzip"} if packed else {}
    found = region.run(
        # The pipe of the next epoch may come a moment later: the contract says to try again.
        "cd /opt/ml/processing/in && cat data_0 > out/x; "
        "until test -p data_1; do sleep 0.01; done; cat data_1 >> out/x",
        inputs=[given("data", "in/", f"{PROCESSING}/in/data", S3InputMode="Pipe", **more)],
        outputs=[taken("out", path=f"{PROCESSING}/in/out")],
    )
    assert found["ProcessingJobStatus"] == "Completed", found
    assert region.read("out/x") == b"one\none\n"


def test_a_broken_pipe_fails_the_job(region):
    region.put("in/a", b"not gzip")
    found = region.run(
        "cat /opt/ml/processing/data_0; sleep 60",
        inputs=[given("data", "in/", S3InputMode="Pipe", S3CompressionType="Gzip")],
    )
    assert found["ProcessingJobStatus"] == "Failed"
    assert "is not gzip" in found["FailureReason"]


def test_continuous_upload(region):
    """A file is in S3 while the job runs; what an input brought is sent too."""
    region.put("in/a", b"1")
    region.create(
        "cd /opt/ml/processing/data; echo early > early; ln -s early link;"
        " while [ ! -e /opt/ml/processing/stop/go ]; do sleep 0.02; done; echo late > late",
        inputs=[given("data", "in/")],
        outputs=[taken("out", path=f"{PROCESSING}/data", mode="Continuous"), taken("stop")],
    )
    wait_until(lambda: "out/early" in region.objects("out/"), "the first file")
    assert region.describe()["ProcessingJobStatus"] == "InProgress"
    tree = region.state / "work" / "processing-jobs" / "job-1" / "algo-1" / "ml"
    (tree / "processing" / "stop" / "go").touch()
    assert region.end()["ProcessingJobStatus"] == "Completed"
    assert region.objects("out/") == ["out/a", "out/early", "out/late"]
    assert any("is a link" in line for line in region.log())


def test_what_the_application_manages_is_left_alone(region):
    source = {"S3Uri": "s3://elsewhere/x", "S3DataType": "S3Prefix"}
    target = {"S3Uri": "s3://elsewhere/y", "S3UploadMode": "EndOfJob", "LocalPath": PROCESSING}
    found = region.run(
        "ls /opt/ml/processing 2>&1; tr -d '\\n' < /opt/ml/config/processingjobconfig.json",
        inputs=[{"InputName": "i", "AppManaged": True, "S3Input": source}],
        outputs=[{"OutputName": "o", "AppManaged": True, "S3Output": target}],
    )
    assert found["ProcessingJobStatus"] == "Completed"
    assert found["ProcessingInputs"][0]["AppManaged"] is True
    document = json.loads(region.log()[-1])
    assert "S3DownloadMode" not in document["ProcessingInputs"][0]["S3Input"]


def test_network_isolation(region):
    found = region.run(
        "ls /sys/class/net | tr '\\n' ' '", NetworkConfig={"EnableNetworkIsolation": True}
    )
    assert found["ProcessingJobStatus"] == "Completed"
    assert found["NetworkConfig"] == {"EnableNetworkIsolation": True}
