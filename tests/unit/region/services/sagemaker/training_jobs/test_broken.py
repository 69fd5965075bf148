"""When something breaks under a job, it ends with its reason, and those who wait return."""

from __future__ import annotations

import errno
import gc
import json
import os
from dataclasses import dataclass

import pytest
from tests.support.waiting import wait_until
from tests.unit.region.services.sagemaker.training_jobs.conftest import TrainingRegion

from sagemaker_byoc.contract import folders
from sagemaker_byoc.contract.errors import MachineError
from sagemaker_byoc.region.core import records
from sagemaker_byoc.region.services.logs.log_store import LogStore
from sagemaker_byoc.region.services.sagemaker.training_jobs.training_run import TrainingRun

pytestmark = pytest.mark.slow  # real processes

WAITS = (
    "echo waiting; echo x > /opt/ml/model/m; while [ ! -e /opt/ml/input/go ]; do sleep 0.02; done"
)


@dataclass
class Breaking:
    """A container of the real engine, whose `broken` methods raise; `kept` tells if it was kept."""

    container: object
    engine: BreakingEngine

    def __getattr__(self, name):
        if name in self.engine.broken:
            return self._raise
        return getattr(self.container, name)

    def _raise(self, *_):
        raise self.engine.error

    def keep(self):
        self.engine.kept.append(self)
        self._end()
        return "It is kept."

    def close(self):
        self.engine.closed.append(self)
        self._end()

    def _end(self):
        self.container.close()
        self.container.process.stdout.close()  # nobody has read it to its end


class BreakingEngine:
    def __init__(self, engine):
        self._engine = engine
        self.broken = set()
        self.error = MachineError("`docker x` failed: no space left on device", hint="Cure")
        self.kept, self.closed = [], []

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def start(self, spec):
        return Breaking(self._engine.start(spec), self)


@pytest.fixture
def breaking(engine):
    return BreakingEngine(engine)


@pytest.fixture
def region(tmp_path, breaking):
    made = TrainingRegion(tmp_path / "state", breaking)
    yield made
    made.close()


def go(region):
    (region.state / "work/training-jobs/job-1/algo-1/ml/input/go").touch()


@pytest.mark.parametrize("error", [None, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])
def test_a_failed_copy_keeps_the_container_and_fails_the_job(region, breaking, error):
    """In docker's words, or the disk's; not Completed with an empty model."""
    breaking.broken = {"collect"}
    breaking.error = error or breaking.error
    ended = region.run("echo x > /opt/ml/model/m")
    assert ended["TrainingJobStatus"] == "Failed"
    assert ended["FailureReason"].startswith("InternalServerError: ")
    assert "no space left on device" in ended["FailureReason"].lower()
    assert ended["FailureReason"].endswith("It is kept.")
    assert len(breaking.kept) == 1
    assert breaking.closed == []


@pytest.mark.parametrize("broken", [{"wait"}, {"lines", "wait"}])
def test_an_engine_that_is_gone_is_no_failure_of_the_program(region, breaking, broken):
    """Nobody knows how the program ended: InternalServerError, and the container is kept."""
    breaking.broken = broken
    reason = region.run("true")["FailureReason"]
    assert reason.startswith("InternalServerError: algo-1 was lost: `docker x` failed")
    assert len(breaking.kept) == 1


def test_a_container_that_cannot_be_stopped_ends_the_job_all_the_same(region, breaking):
    """What hangs is not waited for."""
    breaking.broken = {"stop"}
    region.create("echo waiting; sleep 600")
    region.wait_for_line("waiting")
    region.call("StopTrainingJob", TrainingJobName="job-1")
    assert region.end()["FailureReason"].startswith("InternalServerError: algo-1 was lost")


def test_a_log_that_is_lost_ends_no_job(region, breaking):
    """The exit code is asked for all the same."""
    breaking.broken = {"lines"}
    assert region.run("exit 3")["FailureReason"] == "AlgorithmError: , exit code: 3"
    assert any("the log of algo-1 was lost" in line for line in region.log())


def test_a_program_may_close_its_output_and_go_on(region):
    """The end of its log is not its end."""
    region.create(f"exec >&- 2>&-; {WAITS}")
    model = region.state / "work/training-jobs/job-1/algo-1/ml/model/m"
    wait_until(model.exists, "the program")
    assert region.describe()["TrainingJobStatus"] == "InProgress"
    go(region)
    assert region.end()["TrainingJobStatus"] == "Completed"


def test_a_failed_upload_keeps_the_container(region, breaking):
    """As a failed copy does: the model is nowhere else."""
    region.store.create_bucket("goes-away")
    region.create(WAITS, OutputDataConfig={"S3OutputPath": "s3://goes-away/x"})
    region.wait_for_line("waiting")
    region.store.delete_bucket("goes-away")
    go(region)
    reason = region.end()["FailureReason"]
    assert reason.startswith("ClientError: Artifact upload failed: NoSuchBucket")
    assert reason.endswith("It is kept.")
    assert (len(breaking.kept), breaking.closed) == (1, [])


def test_any_exception_ends_the_record(region, monkeypatch):
    """Also one that nobody thought of."""

    def fail(_):
        raise SystemExit(1)

    monkeypatch.setattr(TrainingRun, "_find", fail)
    assert region.run("true")["FailureReason"].startswith("InternalServerError: We encountered")
    wait_until(lambda: not region.jobs._runs, "the thread")


def test_records_that_cannot_be_written_count_and_are_written_later(region, monkeypatch):
    """DescribeTrainingJob and waiters see the end; the disk gets it when it has room again."""
    write = records.write_atomically
    region.create(WAITS)
    region.wait_for_line("waiting")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(records, "write_atomically", full)
    go(region)
    assert region.end()["TrainingJobStatus"] == "Completed"
    wait_until(lambda: not region.jobs._runs, "the thread")
    file = region.state / "sagemaker/training-jobs/job-1.json"
    assert json.loads(file.read_text())["TrainingJobStatus"] == "InProgress"
    monkeypatch.setattr(records, "write_atomically", write)
    region.run("true", "job-2")
    assert json.loads(file.read_text())["TrainingJobStatus"] == "Completed"


def test_a_log_that_cannot_be_written_ends_no_job(region, monkeypatch):
    """Lines are lost and counted."""
    stream = LogStore.open

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(LogStore, "open", full)
    region.create(f"echo lost; echo lost; {WAITS}; echo told")
    model = region.state / "work/training-jobs/job-1/algo-1/ml/model/m"
    wait_until(model.exists, "the program")
    log = region.jobs._runs["job-1"]._log
    wait_until(lambda: any(each.lost == 3 for each in [*log._streams.values()]), "three lines")
    monkeypatch.setattr(LogStore, "open", stream)
    go(region)
    assert region.end()["TrainingJobStatus"] == "Completed"
    assert region.log()[:2] == ["byoc: 3 lines before this one could not be written", "told"]


def test_checkpoints_that_cannot_be_sent_fail_the_job(region):
    """And the model is kept: its bucket is there."""
    region.store.create_bucket("goes-away")
    region.create(
        f"{WAITS}; echo x > /opt/ml/checkpoints/c",
        CheckpointConfig={"S3Uri": "s3://goes-away/ckpt"},
    )
    region.wait_for_line("waiting")
    region.store.delete_bucket("goes-away")
    go(region)
    reason = region.end()["FailureReason"]
    assert reason.startswith("ClientError: Artifact upload failed: checkpoints can't be sent to")
    assert "NoSuchBucket" in reason
    assert region.objects("out/") == ["out/job-1/output/model.tar.gz"]


def test_a_failed_program_keeps_its_reason_if_the_upload_fails_too(region):
    """The reason names both."""
    region.store.create_bucket("goes-away")
    region.create(f"{WAITS}; exit 3", OutputDataConfig={"S3OutputPath": "s3://goes-away/x"})
    region.wait_for_line("waiting")
    region.store.delete_bucket("goes-away")
    go(region)
    reason = region.end()["FailureReason"]
    assert reason.startswith("AlgorithmError: , exit code: 3; NoSuchBucket")


def test_a_job_whose_tags_cannot_be_written_is_not_there(region, monkeypatch):
    """Nothing is InProgress that never started."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(region.context.tags, "add", full)
        with pytest.raises(OSError, match="No space"):
            region.create("true")
    assert region.run("true")["TrainingJobStatus"] == "Completed"


@pytest.mark.parametrize("program", ["echo x > /opt/ml/model/m", "exit 1"])
def test_the_work_folder_is_gone_before_the_end_is_told(region, monkeypatch, program):
    """On a full disk the next job needs its room, and may start as soon as this one has ended."""
    remove, seen = folders.remove, []

    def look(folder):
        seen.append(region.describe()["TrainingJobStatus"])
        remove(folder)

    monkeypatch.setattr(folders, "remove", look)
    region.run(program)
    assert seen[-1] == "InProgress"


def test_a_full_disk_fails_the_job_and_leaves_room(small_disk, engine):
    """60 MB of model on 40 MB: Failed, in memory and on the disk, with its reason."""
    region = TrainingRegion(small_disk / "state", engine)
    gc.disable()  # a failure in a reference cycle would keep the model open, and its room
    try:
        ended = region.run("head -c 60000000 /dev/urandom > /opt/ml/model/m; exit 0")
        assert ended["TrainingJobStatus"] == "Failed"
        assert "No space left on device" in ended["FailureReason"]
        wait_until(lambda: not region.jobs._runs, "the thread")
        file = region.state / "sagemaker/training-jobs/job-1.json"
        assert json.loads(file.read_text())["TrainingJobStatus"] == "Failed"
        assert region.run("echo x > /opt/ml/model/m", "job-2")["TrainingJobStatus"] == "Completed"
        assert region.objects("out/job-2/")
    finally:
        gc.enable()
        region.close()
