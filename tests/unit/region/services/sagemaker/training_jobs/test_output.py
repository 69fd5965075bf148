"""What a job leaves in S3 and in its description."""

from __future__ import annotations

import io
import tarfile

import pytest
from tests.support.waiting import wait_until
from tests.unit.region.services.sagemaker.training_jobs.conftest import BUCKET

from sagemaker_byoc.region.services.cloudwatch.metric import Metric
from sagemaker_byoc.region.services.sagemaker.training_jobs import metric_collector

pytestmark = pytest.mark.slow  # real processes


def test_hosts_share_one_archive_and_clashes_are_told(region):
    """The files of all; of one name the first host's, and a line says so."""
    region.run(
        "mkdir /opt/ml/model/d; hostname > /opt/ml/model/same; touch /opt/ml/model/d/$(hostname)",
        hosts=2,
    )
    with tarfile.open(fileobj=io.BytesIO(region.read("out/job-1/output/model.tar.gz"))) as tar:
        assert sorted(tar.getnames()) == ["d", "d/algo-1", "d/algo-2", "same"]
        assert tar.extractfile("same").read() == b"algo-1\n"
    assert any(
        "/opt/ml/model/same was written by algo-1 and by algo-2" in line for line in region.log()
    )


def test_the_same_files_make_the_same_archive(region):
    """Nothing of the time or of who packed it."""
    script = "echo 1 > /opt/ml/model/m; touch -d 2026-01-01 /opt/ml/model/m"
    region.run(script, "job-1")
    region.run(script, "job-2")
    one, two = (region.read(f"out/job-{n}/output/model.tar.gz") for n in (1, 2))
    assert one == two


def test_uncompressed_model(region):
    """The tree below a prefix; the output data stay an archive."""
    ended = region.run(
        "mkdir -p /opt/ml/model/d; echo 1 > /opt/ml/model/d/m; touch /opt/ml/output/data/o",
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/out/", "CompressionType": "NONE"},
    )
    assert region.objects("out/") == [
        "out/job-1/output/model/d/m",
        "out/job-1/output/output.tar.gz",
    ]
    uri = f"s3://{BUCKET}/out/job-1/output/model/"
    assert ended["ModelArtifacts"]["S3ModelArtifacts"] == uri


def test_metrics_are_the_last_value_of_the_first_group(region):
    """A regex that never matched, or has no group, is told in the log."""
    ended = region.run(
        "echo 'loss=0.5;'; echo 'loss=2.5e-1; acc=high'",
        algorithm={
            "MetricDefinitions": [
                {"Name": "loss", "Regex": "loss=([0-9.e-]+);"},
                {"Name": "never", "Regex": "val=([0-9]+)"},
                {"Name": "text", "Regex": "acc=([a-z]+)"},
                {"Name": "groupless", "Regex": "loss"},
            ]
        },
    )
    assert [(m["MetricName"], m["Value"]) for m in ended["FinalMetricDataList"]] == [("loss", 0.25)]
    points = region.context.metrics.read(
        Metric.of("/aws/sagemaker/TrainingJobs", "loss", {"TrainingJobName": "job-1"}),
        0, 2**40, 2**40,
    )  # fmt: skip
    assert [(point.unit, point.summary.values) for point in points] == [
        ("None", {0.5: 1.0, 0.25: 1.0})
    ]
    assert len(region.context.metrics.metrics(0)) == 1
    told = [line for line in region.log() if line.startswith("byoc: metric")]
    assert ["matched no line" in told[0], "not a number" in told[1], "no group" in told[2]] == [
        True
    ] * 3


def test_checkpoints_of_all_hosts_meet_in_one_place(region):
    """Restored to every host, and synced from every host."""
    region.put("ckpt/job/old", b"1")
    region.run(
        "cat /opt/ml/checkpoints/old; touch /opt/ml/checkpoints/$(hostname)",
        hosts=2,
        CheckpointConfig={"S3Uri": f"s3://{BUCKET}/ckpt/job/"},
    )
    assert region.log(host="algo-1")[0] == region.log(host="algo-2")[0] == "1"
    assert region.objects("ckpt/") == ["ckpt/job/algo-1", "ckpt/job/algo-2", "ckpt/job/old"]


def test_checkpoints_arrive_while_the_job_runs(region, monkeypatch):
    """Whole files only, a few seconds after they were written."""
    monkeypatch.setattr("sagemaker_byoc.region.services.sagemaker.jobs.outputs.INTERVAL", 0.05)
    region.create(
        "echo 1 > /opt/ml/checkpoints/step; while [ ! -e /opt/ml/input/go ]; do sleep 0.02; done",
        CheckpointConfig={"S3Uri": f"s3://{BUCKET}/ckpt"},
    )
    wait_until(lambda: region.objects("ckpt/") == ["ckpt/step"], "the checkpoint in S3")
    assert region.describe()["SecondaryStatus"] == "Training"
    (region.state / "work/training-jobs/job-1/algo-1/ml/input/go").touch()
    assert region.end()["TrainingJobStatus"] == "Completed"


def test_hosts_are_measured_while_the_job_runs(region, monkeypatch):
    monkeypatch.setattr("sagemaker_byoc.region.services.sagemaker.utilization.SAMPLE_SECONDS", 0.05)
    region.create("while [ ! -e /opt/ml/input/go ]; do sleep 0.02; done")
    names = ("CPUUtilization", "DiskUtilization", "MemoryUtilization")
    wanted = {
        Metric.of("/aws/sagemaker/TrainingJobs", name, {"Host": "job-1/algo-1"}) for name in names
    }
    wait_until(lambda: set(region.context.metrics.metrics(0)) == wanted, "metrics of the host")
    (region.state / "work/training-jobs/job-1/algo-1/ml/input/go").touch()
    assert region.end()["TrainingJobStatus"] == "Completed"
    assert not region.context.utilization._followed


def test_no_bucket_at_the_end_is_told(region):
    """The model could not be kept: the job failed, and says why."""
    region.store.create_bucket("goes-away")
    region.create(
        "touch /opt/ml/model/m; while [ ! -e /opt/ml/input/go ]; do sleep 0.02; done",
        OutputDataConfig={"S3OutputPath": "s3://goes-away/x"},
    )
    region.store.delete_bucket("goes-away")
    tree = region.state / "work/training-jobs/job-1/algo-1/ml/input"
    wait_until(tree.is_dir, "the tree")
    (tree / "go").touch()
    reason = region.end()["FailureReason"]
    assert reason.startswith("ClientError: Artifact upload failed: NoSuchBucket")


def test_a_definition_that_takes_for_ever_is_given_up(monkeypatch):
    """And named; the others go on, and so does every other thread."""
    monkeypatch.setattr(metric_collector, "SEARCH_SECONDS", 0.05)
    collector = metric_collector.MetricCollector(
        metric_collector.compile_definitions({"slow": "(a|aa)+$", "loss": "loss=([0-9.]+)"})
    )
    for number in range(3):
        collector.see(f"loss={number} {'a' * 200}b")
    assert [name for name, _ in collector.last.items()] == ["loss"]
    assert collector.last["loss"].value == 2
    (warning,) = collector.warnings()
    assert "'slow'" in warning
    assert "given up" in warning
