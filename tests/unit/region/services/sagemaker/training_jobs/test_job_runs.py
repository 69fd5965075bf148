"""`byoc runs` on a region's state folder, and where a job's reports go in S3."""

from __future__ import annotations

import tarfile
from datetime import UTC, datetime

import pytest

from sagemaker_byoc.cli.main import main
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.runs import RunRecord
from sagemaker_byoc.region.core.records import Records
from sagemaker_byoc.region.services.logs.log_store import LogStore
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.sagemaker.jobs import outputs
from sagemaker_byoc.region.services.sagemaker.jobs.outputs import ReportPlan
from sagemaker_byoc.region.services.sagemaker.training_jobs.job_runs import is_region, region_runs
from sagemaker_byoc.region.services.sagemaker.training_jobs.record import TRAINING_JOB

START, END = (datetime(2026, 1, 1, 12, 0, second, tzinfo=UTC) for second in (0, 30))


def document(name, **members):
    return {
        "TrainingJobName": name,
        "TrainingJobStatus": "Completed",
        "CreationTime": START,
        "TrainingStartTime": START,
        "TrainingEndTime": END,
        "HyperParameters": {"rate": '"0.1"', "api_key": "hush", "sagemaker_program": "train.py"},
        "AlgorithmSpecification": {
            "TrainingImage": "mine:1",
            "MetricDefinitions": [{"Name": "loss", "Regex": "loss: ([0-9.]+)"}],
        },
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/some/prefix/"},
        **members,
    }


@pytest.fixture
def state(tmp_path):
    """A job that only printed, and one that tracked."""
    records = Records(tmp_path / "sagemaker" / "training-jobs")
    last = [{"MetricName": "loss", "Value": 0.5, "Timestamp": END}]
    records.put("printed", document("printed", FinalMetricDataList=last))
    stream = LogStore(tmp_path / "logs").open(TRAINING_JOB.group, "printed/algo-1-1")
    for loss in (2.0, 0.25, 0.5):
        stream.write(f"epoch done, loss: {loss}")
    stream.close()
    records.put("tracked", document("tracked"))
    record = RunRecord(name="own", commit="c0ffee", metrics={"loss": 0.125}, status="Completed")
    record.write(tmp_path / "made" / "run.json")
    archive = (
        tmp_path / "s3" / "bucket" / "some" / "prefix" / "tracked" / "output" / "output.tar.gz"
    )
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as file:
        file.add(tmp_path / "made" / "run.json", "run.json")
    return tmp_path


def test_a_job_that_only_prints(state):
    """Its definitions' regexes make it a run: the last value as SageMaker has it, and the best."""
    printed = next(run for run in region_runs(state).runs if run.record.name == "printed")
    assert is_region(state)
    assert printed.record.metrics == {"loss": 0.5}
    assert printed.points == {"loss": [2.0, 0.25, 0.5]}
    assert printed.best("loss") == 0.25
    assert printed.record.parameters == {"rate": "0.1", "api_key": "***"}
    assert (printed.record.image, printed.record.ended) == ("mine:1", END.timestamp())


def test_a_job_that_tracks(state):
    """What Track left in its output is the run, under the job's name."""
    tracked = next(run for run in region_runs(state).runs if run.record.name == "tracked")
    assert (tracked.record.commit, tracked.record.metrics) == ("c0ffee", {"loss": 0.125})
    assert tracked.record.image == "mine:1"


def test_command(state, capsys):
    """The best first, also of a run of which only the last value is known."""
    assert main(["runs", str(state), "--sort", "loss"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows[1:]] == ["tracked", "printed"]


@pytest.mark.parametrize(
    "text", ["{", "[]", "\xff", '{"HyperParameters": 7}', '{"FinalMetricDataList": [{}]}']
)
def test_broken_record(state, capsys, text):
    """It is named, and hides no other job."""
    broken = state / "sagemaker" / "training-jobs" / "other.json"
    broken.write_bytes(text.encode("latin-1"))
    assert main(["runs", str(state)]) == 0
    said = capsys.readouterr()
    assert [row.split()[0] for row in said.out.splitlines()[1:]] == ["tracked", "printed"]
    assert f"left out: {broken}" in said.err


def test_reports(tmp_path):
    """Under the SDK's names; no link leads outside; a file that two hosts wrote costs a line."""
    trees = {host: Tree(tmp_path / host / "ml") for host in ("algo-1", "algo-2")}
    for tree in trees.values():
        for folder in ("profiler/system", "tensorboard", "elsewhere"):
            (tree.output / folder).mkdir(parents=True)
            (tree.output / folder / "file").write_text(folder)
        (tree.output / "tensorboard" / "link").symlink_to("/etc/hostname")
    store = ObjectStore(tmp_path / "s3")
    store.create_bucket("bucket")
    plans = [
        ReportPlan(name=name, bucket="bucket", prefix=prefix, folder=f"output/{folder}")
        for name, prefix, folder in (
            ("profiler-output", "p/job/profiler-output", "profiler"),
            ("tensorboard-output", "job/tensorboard-output", "tensorboard"),
        )
    ]
    lines = []
    outputs.upload_reports(plans, trees, store, lines.append)
    assert [info.key for info in store.list("bucket")] == [
        "job/tensorboard-output/file",
        "p/job/profiler-output/system/file",
    ]
    assert len([line for line in lines if "/link because" in line]) == 2
    assert len([line for line in lines if "was written by algo-1 and by algo-2" in line]) == 2
    store.close()
