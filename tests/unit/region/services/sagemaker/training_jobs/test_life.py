"""A job's way through its statuses, on every path that there is."""

from __future__ import annotations

import io
import itertools
import tarfile

import pytest
from tests.support.waiting import wait_until
from tests.unit.region.services.sagemaker.training_jobs.conftest import BUCKET

from sagemaker_byoc.region.wire.operations import AwsError

SPOT = {
    "EnableManagedSpotTraining": True,
    "StoppingCondition": {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 600},
}
SAVES = """
trap 'echo saved > /opt/ml/model/m; exit 0' TERM
echo waiting
while :; do sleep 0.02; done
"""


def path_of(document):
    return [step["Status"] for step in document["SecondaryStatusTransitions"]]


def names_in(archive):
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getnames()


def test_normal_path_with_messages_and_times(region):
    """Starting to Completed, each transition closed when the next begins."""
    document = region.run("echo hi > /opt/ml/model/m")
    steps = document["SecondaryStatusTransitions"]
    assert [(step["Status"], step["StatusMessage"]) for step in steps] == [
        ("Starting", "Preparing the instances for training"),
        ("Downloading", "Downloading input data"),
        ("Training", "Training image download completed. Training in progress."),
        ("Uploading", "Uploading generated training model"),
        ("Completed", "Training job completed"),
    ]
    assert all(a["EndTime"] == b["StartTime"] for a, b in itertools.pairwise(steps))
    assert steps[-1]["EndTime"] >= steps[-1]["StartTime"]
    assert document["TrainingJobStatus"] == document["SecondaryStatus"] == "Completed"
    assert document["CreationTime"] <= document["TrainingStartTime"]
    assert document["TrainingStartTime"] <= document["TrainingEndTime"]
    assert document["TrainingTimeInSeconds"] == document["BillableTimeInSeconds"] == 1
    key = "out/job-1/output/model.tar.gz"
    assert document["ModelArtifacts"] == {"S3ModelArtifacts": f"s3://{BUCKET}/{key}"}
    assert names_in(region.read(key)) == ["m"]


def test_failure_file_is_the_reason(region):
    """In AWS's form; and what was written until then is kept."""
    document = region.run(
        "echo half > /opt/ml/model/m; echo log > /opt/ml/output/data/l; "
        "printf 'no such label' > /opt/ml/output/failure; exit 3"
    )
    assert document["FailureReason"] == "AlgorithmError: no such label, exit code: 3"
    assert path_of(document) == ["Starting", "Downloading", "Training", "Failed"]
    assert region.objects("out/") == [
        "out/job-1/output/model.tar.gz",
        "out/job-1/output/output.tar.gz",
    ]


def test_reason_is_cut_to_1024_with_its_exit_code(region):
    """A long text loses its end, and never the code."""
    document = region.run("head -c 5000 /dev/zero | tr '\\0' x > /opt/ml/output/failure; exit 9")
    assert len(document["FailureReason"]) <= 1024
    assert document["FailureReason"].endswith(", exit code: 9")


def test_failure_file_of_a_success_counts_for_nothing(region):
    """Only the exit code decides."""
    document = region.run("echo bad > /opt/ml/output/failure")
    assert document["TrainingJobStatus"] == "Completed"
    assert "FailureReason" not in document


def test_stop_lets_the_program_save(region):
    """SIGTERM, then what it saved is uploaded."""
    region.create(SAVES)
    region.wait_for_line("waiting")
    region.call("StopTrainingJob", TrainingJobName="job-1")
    document = region.end()
    assert document["TrainingJobStatus"] == "Stopped"
    assert path_of(document)[-3:] == ["Stopping", "Uploading", "Stopped"]
    assert names_in(region.read("out/job-1/output/model.tar.gz")) == ["m"]
    with pytest.raises(AwsError, match="in status Stopped"):
        region.call("StopTrainingJob", TrainingJobName="job-1")


@pytest.mark.slow
def test_max_runtime_stops_and_does_not_fail(region):
    """TrainingJobStatus Stopped, SecondaryStatus MaxRuntimeExceeded."""
    document = region.run(SAVES, StoppingCondition={"MaxRuntimeInSeconds": 1})
    assert document["TrainingJobStatus"] == "Stopped"
    assert document["SecondaryStatus"] == "MaxRuntimeExceeded"
    assert "Stopping" in path_of(document)
    assert "out/job-1/output/model.tar.gz" in region.objects()


def test_spot_interruption_starts_again_with_checkpoints(region):
    """The instance and its disk are new; what was in the checkpoint folder is there again."""
    region.create(
        """
        if [ -e /opt/ml/checkpoints/step ]; then
          cat /opt/ml/checkpoints/step > /opt/ml/model/m; ls /opt/ml/output/data; exit 0
        fi
        trap 'echo 7 > /opt/ml/checkpoints/step; exit 1' TERM
        touch /opt/ml/output/data/gone
        echo waiting
        while :; do sleep 0.02; done
        """,
        CheckpointConfig={"S3Uri": f"s3://{BUCKET}/ckpt/job"},
        **SPOT,
    )
    region.wait_for_line("waiting")
    region.jobs.interrupt("job-1")
    document = region.end()
    assert path_of(document) == [
        "Starting", "Downloading", "Training", "Interrupted",
        "Starting", "Downloading", "Training", "Uploading", "Completed",
    ]  # fmt: skip
    assert region.read("ckpt/job/step") == b"7\n"
    assert "gone" not in region.log()
    assert document["BillableTimeInSeconds"] <= document["TrainingTimeInSeconds"]


def test_spot_instance_may_go_without_a_word(region):
    """With `kill` there is no SIGTERM; the checkpoints synced before are what there is."""
    region.create(
        """
        [ -e /opt/ml/checkpoints/step ] && exit 0
        trap 'touch /opt/ml/checkpoints/told; exit 1' TERM
        echo 1 > /opt/ml/checkpoints/step
        echo waiting
        while :; do sleep 0.02; done
        """,
        CheckpointConfig={"S3Uri": f"s3://{BUCKET}/ckpt"},
        **SPOT,
    )
    region.wait_for_line("waiting")
    region.jobs.interrupt("job-1", kill=True)
    assert region.end()["TrainingJobStatus"] == "Completed"
    assert region.objects("ckpt/") == ["ckpt/step"]


@pytest.mark.slow
def test_max_wait_time(region):
    """A spot job that does not end within it is Stopped / MaxWaitTimeExceeded."""
    document = region.run(
        SAVES,
        EnableManagedSpotTraining=True,
        StoppingCondition={"MaxRuntimeInSeconds": 1, "MaxWaitTimeInSeconds": 1},
    )
    assert document["SecondaryStatus"] == "MaxWaitTimeExceeded"
    assert document["TrainingJobStatus"] == "Stopped"


def test_only_spot_jobs_that_run_are_interrupted(region):
    """And the refusal says why."""
    region.run("true")
    with pytest.raises(AwsError, match="EnableManagedSpotTraining"):
        region.jobs.interrupt("job-1")
    region.run("true", "job-2", **SPOT)
    with pytest.raises(AwsError, match="in status Completed"):
        region.jobs.interrupt("job-2")


def test_a_command_that_is_not_there_fails_the_job(region):
    """Exit code 127, as a shell and Docker say it."""
    document = region.run(algorithm={"ContainerEntrypoint": ["/no/such/command"]})
    assert document["FailureReason"] == "AlgorithmError: , exit code: 127"
    assert any("/no/such/command" in line for line in region.log())


@pytest.mark.slow
def test_stop_ends_what_ignores_sigterm(region, monkeypatch):
    """SIGKILL after the grace; 120 s in production."""
    monkeypatch.setattr("sagemaker_byoc.region.services.sagemaker.jobs.job_run.STOP_GRACE", 0.3)
    region.create("trap '' TERM; echo waiting; while :; do sleep 0.05; done")
    region.wait_for_line("waiting")
    region.call("StopTrainingJob", TrainingJobName="job-1")
    assert region.end()["TrainingJobStatus"] == "Stopped"


def test_closing_the_region_stops_its_jobs(region):
    """As StopTrainingJob would: nothing runs on without its region."""
    region.create(SAVES)
    region.wait_for_line("waiting")
    region._on_loop(region.jobs.close())
    assert region.describe()["TrainingJobStatus"] == "Stopped"


@pytest.mark.slow
def test_twenty_jobs_at_once(region):
    """None is lost, and nothing of any is left."""
    names = [f"job-{number}" for number in range(20)]
    for name in names:
        region.create("echo $TRAINING_JOB_NAME > /opt/ml/model/name", name)
    for name in names:
        assert region.end(name)["TrainingJobStatus"] == "Completed"
    assert len(region.objects("out/")) == 20
    wait_until(lambda: not region.jobs._runs, "the last thread")
    assert not [*(region.state / "work" / "training-jobs").iterdir()]
