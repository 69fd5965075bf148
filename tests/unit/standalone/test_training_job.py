"""One training job on the process engine: the real supervisor, real programs, no Docker."""

from __future__ import annotations

import json
import tarfile
import textwrap
import threading
from pathlib import Path

import pytest

from sagemaker_byoc.contract import archives
from sagemaker_byoc.contract.errors import DocumentError, MachineError, RequestError
from sagemaker_byoc.region.engines.process import ProcessContainer, ProcessEngine, make_engine
from sagemaker_byoc.standalone import training_job
from sagemaker_byoc.standalone.training_job import (
    Status,
    StopSwitch,
    TrainingRequest,
    Transcript,
    run_training_job,
)

pytestmark = pytest.mark.slow  # real processes


@pytest.fixture(scope="module")
def namespace_engine(tmp_path_factory):
    engine = make_engine(tmp_path_factory.mktemp("probe"))
    if not engine.unshare:
        pytest.skip("this kernel forbids mount namespaces")
    return engine


@pytest.fixture(params=["namespace", "relocated"])
def engine(request):
    """Both ways in which the process engine shows a tree."""
    if request.param == "relocated":
        return ProcessEngine(())
    return request.getfixturevalue("namespace_engine")


@pytest.fixture
def job(tmp_path):
    """Run a program's text as a job; returns its result and its log."""

    def run(engine, text, *, stop=None, on_line=None, copying=None, **more):
        program = tmp_path / "program"
        program.mkdir()
        (program / "train.py").write_text(textwrap.dedent(text))
        log = []
        request = TrainingRequest(
            **{
                "name": "job-1",
                "output": tmp_path / "out",
                "program": program,
                "channels": {},
                "hyperparameters": {},
                "environment": {},
                **more,
            }
        )
        stop = stop or StopSwitch()
        result = run_training_job(request, engine, on_line or log.append, stop, copying)
        return result, log

    return run


def host_opt():
    return sorted(str(path) for path in Path("/opt").glob("*"))


def test_reads_channels_and_writes_a_model(engine, job, tmp_path):
    """Channel and hyperparameters in, model.tar.gz and output.tar.gz out, nothing else left."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "rows.csv").write_text("1,2")
    result, log = job(
        engine,
        """
        import os, sys
        rows = open(os.environ["SM_CHANNEL_TRAIN"] + "/rows.csv").read()
        open(os.environ["SM_MODEL_DIR"] + "/model.txt", "w").write(rows + sys.argv[2])
        open(os.environ["SM_OUTPUT_DATA_DIR"] + "/report", "w").write("fine")
        print("hello", os.environ["TRAINING_JOB_NAME"])
        """,
        channels={"train": data},
        hyperparameters={"epochs": "3"},
    )
    assert result.status is Status.COMPLETED
    assert result.exit_code == 0
    assert result.failure_reason is None
    assert "hello job-1" in log
    with tarfile.open(result.model) as tar:
        assert tar.extractfile("model.txt").read() == b"1,23"
    with tarfile.open(result.output) as tar:
        assert tar.getnames() == ["report"]
    names = {entry.name for entry in (tmp_path / "out").iterdir()}
    assert names == {"model.tar.gz", "output.tar.gz"}
    assert (data / "rows.csv").read_text() == "1,2"


def test_namespace_shows_opt_ml_and_protects_the_data(namespace_engine, job, tmp_path):
    """/opt/ml is there, a channel can't be written, and the host sees nothing of it."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "rows.csv").write_text("1,2")
    before = host_opt()
    result, log = job(
        namespace_engine,
        """
        try:
            open("/opt/ml/input/data/train/rows.csv", "w")
        except OSError as error:
            print("refused:", error.strerror)
        open("/opt/ml/model/m", "w").write("x")
        """,
        channels={"train": data},
    )
    assert result.status is Status.COMPLETED
    assert "refused: Read-only file system" in log
    assert (data / "rows.csv").read_text() == "1,2"
    assert host_opt() == before


def test_failed_program_gives_its_cause(engine, job):
    """FailureReason as SageMaker words it: the exception first, then the exit code."""
    result, _ = job(engine, "raise ValueError('no such label')")
    assert result.status is Status.FAILED
    assert result.exit_code == 1
    assert result.failure_reason.startswith("AlgorithmError: ValueError: no such label")
    assert result.failure_reason.endswith("exit code: 1")
    assert result.model is None


def test_partial_model_of_a_failed_job_is_kept(engine, job):
    """What a program saved before it failed is not lost."""
    result, _ = job(
        engine,
        """
        import os, sys
        open(os.environ["SM_MODEL_DIR"] + "/half", "w").write("x")
        sys.exit(3)
        """,
    )
    assert result.exit_code == 3
    assert result.model.exists()


def test_stop_lets_the_program_save(engine, job):
    """SIGTERM reaches the program, what it saves is packed, its exit code is kept."""
    threads = {*threading.enumerate()}
    stop = StopSwitch()
    log = []

    def on_line(line):
        log.append(line)
        if line == "training":
            stop.ask()

    result, _ = job(
        engine,
        """
        import os, signal, sys
        def save(*_):
            open(os.environ["SM_MODEL_DIR"] + "/saved", "w").write("x")
            sys.exit(0)
        signal.signal(signal.SIGTERM, save)
        print("training")
        signal.pause()
        """,
        stop=stop,
        on_line=on_line,
    )
    assert result.status is Status.STOPPED
    assert result.exit_code == 0
    with tarfile.open(result.model) as tar:
        assert tar.getnames() == ["saved"]
    assert {*threading.enumerate()} <= threads


def test_program_sees_nothing_of_the_hosts_environment(engine, job, monkeypatch):
    """Credentials of the developer's shell stay there."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    _, log = job(engine, "import os, json; print(json.dumps(dict(os.environ)))")
    environment = next(json.loads(line) for line in log if line.startswith("{"))
    assert "AWS_SECRET_ACCESS_KEY" not in environment
    assert environment["TRAINING_JOB_ARN"].endswith(":training-job/job-1")


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"name": "no_underscores"}, RequestError, "not a legal job name"),
        ({"channels": {"train": "/nonexistent"}}, RequestError, "no folder /nonexistent"),
        ({"hyperparameters": {"k": "v" * 3000}}, DocumentError, "limit 2500"),
    ],
)
def test_what_sagemaker_refuses_is_refused(job, tmp_path, more, error, words):
    """Before anything runs, and nothing is left behind."""
    if "channels" in more:
        more = {"channels": {name: Path(folder) for name, folder in more["channels"].items()}}
    with pytest.raises(error, match=words):
        job(ProcessEngine(()), "print('ran')", **more)
    assert not (tmp_path / "out" / ".work").exists()


def test_links_are_resolved_or_left_out(engine, job, tmp_path):
    """As in the region, with a line for each."""
    (tmp_path / "secret").write_text("hunter2")
    result, log = job(
        engine,
        f"""
        import os
        model = os.environ["SM_MODEL_DIR"]
        open(model + "/m", "w").write("x")
        os.symlink(model + "/m", model + "/inside")
        os.symlink("{tmp_path}/secret", model + "/leak")
        """,
    )
    with tarfile.open(result.model) as tar:
        assert [(member.name, member.linkname) for member in tar] == [("inside", "m"), ("m", "")]
    assert any(line.startswith("byoc: left out: /opt/ml/model/leak because") for line in log)
    assert any("hosting may refuse an archive with links" in line for line in log)


def test_a_failed_copy_keeps_the_container(namespace_engine, job, monkeypatch):
    """It is an error of this machine that says where the results still are."""

    def fail(*_):
        raise MachineError("`docker cp` failed: no space left on device", hint="Cure")

    monkeypatch.setattr(ProcessContainer, "collect", fail)
    monkeypatch.setattr(ProcessContainer, "keep", lambda _: "It is kept")
    with pytest.raises(MachineError, match=r"no space left on device\. It is kept"):
        job(namespace_engine, "print(1)")


class Copying:
    def __init__(self):
        self.said = []

    def start(self, title):
        self.said.append([title, 0, 0])

    def expect(self, size):
        self.said[-1][1] += size

    def advance(self, size):
        self.said[-1][2] += size

    def finish(self):
        self.said[-1].append("end")


def test_packing_reports_its_progress(namespace_engine, job):
    """It takes longer than the training, for a large model."""
    copying = Copying()
    program = """
    open("/opt/ml/model/w", "wb").write(bytes(70_000))
    """
    result, _ = job(namespace_engine, program, copying=copying)
    assert result.model
    assert copying.said == [
        ["pack model.tar.gz", 70_000, 70_000, "end"],
        ["pack output.tar.gz", 0, 0, "end"],
    ]


def test_a_full_disk_is_no_traceback(namespace_engine, job, monkeypatch):
    """The container is kept: what it holds is nowhere else."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives, "pack_entries", full)
    monkeypatch.setattr(ProcessContainer, "keep", lambda _: "It is kept")
    with pytest.raises(MachineError, match=r"No space left on device\. It is kept"):
        job(namespace_engine, "print(1)")


# ── the log and the metrics that a job leaves in its output folder ──


def test_both_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(training_job, "MOST_CHARACTERS", 20)
    kept = Transcript(tmp_path)
    for number in range(9):
        kept.write(f"loss={number};")
    kept.close()
    lines = ["loss=0;", "loss=1;", "… the rest was not kept"]
    assert (tmp_path / "train.log").read_text().splitlines() == lines
    assert (tmp_path / "metrics.jsonl").read_text().startswith('{"loss": 0.0}\n')
    assert (tmp_path / "metrics.jsonl").stat().st_size < 60


def test_any_text_is_kept(tmp_path):
    """Also what is not Unicode; a value far out in a long line is not a metric."""
    kept = Transcript(tmp_path / "new")
    kept.write("\ud800 ü")
    kept.write(f"{'x' * 3000} loss=1;")
    kept.write("x=" + "1" * 200_000)
    kept.close()
    assert (tmp_path / "new/train.log").read_text().startswith("\\ud800 ü\n")
    assert not (tmp_path / "new/metrics.jsonl").exists()


def test_without_a_line_there_is_no_file(tmp_path):
    Transcript(tmp_path / "new").close()
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_written_is_a_problem_and_no_error(tmp_path):
    (tmp_path / "train.log").symlink_to("/dev/full")
    kept = Transcript(tmp_path)
    kept.write("a line")
    kept.write("another")
    kept.close()
    assert kept.problem == f"{tmp_path / 'train.log'}: No space left on device"
