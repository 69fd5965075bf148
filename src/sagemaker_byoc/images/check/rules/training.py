"""Rules about a tiny training job."""

from __future__ import annotations

from collections.abc import Iterator

from sagemaker_byoc.contract import facts
from sagemaker_byoc.images.check.findings import Found, Rule, Severity
from sagemaker_byoc.images.check.rules import exit_reasons
from sagemaker_byoc.images.check.rules.exit_reasons import Cause
from sagemaker_byoc.images.check.trials.training import Job, TrainingTrial

CANNOT_RUN = frozenset({126, 127})


def one_line(text: str) -> str:
    return " ".join(text.split())[: exit_reasons.SHOWN]


def last_line(log: str) -> str:
    lines = [line for line in log.splitlines() if line.strip()]
    return (
        f"; its last line: {lines[-1].strip()[: exit_reasons.SHOWN]}"
        if lines
        else "; it logged nothing"
    )


def started(trial: TrainingTrial) -> Iterator[Found]:
    job, cause = trial.tiny, _cause(trial.tiny)
    if job.refused:
        yield Found(one_line(job.refused), "docker run IMAGE train")
    elif cause is not None and not cause.starts:
        yield Found(f"exit code {job.exit_code}: {cause.what}", "docker run IMAGE train", cause.fix)
    elif cause is None and job.exit_code in CANNOT_RUN:
        what = f"exit code {job.exit_code}, a shell's for a program that it can't run"
        yield Found(what + last_line(job.log), "docker run IMAGE train")


def complete(trial: TrainingTrial) -> Iterator[Found]:
    job, cause = trial.tiny, _cause(trial.tiny)
    if cause is not None and cause.starts:
        yield Found(f"exit code {job.exit_code}: {cause.what}", "the tiny job", cause.fix)


def _cause(job: Job) -> Cause | None:
    """Return why a job failed, if it would with any data; its failure file may know best."""
    if job.exit_code in {None, 0}:
        return None
    failure = (job.failure or b"").decode(errors="replace")
    return exit_reasons.of(job.log, job.exit_code) or exit_reasons.of(failure, job.exit_code)


def worked(trial: TrainingTrial) -> Iterator[Found]:
    code = trial.tiny.exit_code
    if code not in {None, 0} and code not in CANNOT_RUN and _cause(trial.tiny) is None:
        yield Found(f"exit code {code}{last_line(trial.tiny.log)}", "the tiny job")


def failure_file(trial: TrainingTrial) -> Iterator[Found]:
    for name, job in _jobs(trial):
        cause = _cause(job)
        if job.exit_code in CANNOT_RUN or (cause is not None and not cause.starts):
            return
        if job.exit_code not in {None, 0} and not job.failure:
            yield Found(f"exit code {job.exit_code} and no /opt/ml/output/failure", name)
            return


def failure_length(trial: TrainingTrial) -> Iterator[Found]:
    limit = facts.FAILURE_REASON.value
    for name, job in _jobs(trial):
        text = (job.failure or b"").decode(errors="replace")
        if len(text) > limit:
            yield Found(f"{len(text)} characters or more, of which {limit} are shown", name)


def honest_exit(trial: TrainingTrial) -> Iterator[Found]:
    for name, job in _jobs(trial):
        if job.exit_code == 0 and job.failure:
            yield Found("a failure file, and exit code 0", name)


def model_written(trial: TrainingTrial) -> Iterator[Found]:
    if trial.tiny.exit_code == 0 and not trial.tiny.model:
        yield Found("exit code 0, and /opt/ml/model is empty", "the tiny job")


def stops(trial: TrainingTrial) -> Iterator[Found]:
    stop = trial.stop
    if stop is None or not stop.running:
        return
    if stop.catches is False:
        yield Found("process 1 has no handler for it", "/proc/1/status, SigCgt")
    elif stop.exit_code is None:
        yield Found(f"it ran on for {stop.seconds:.0f} s after SIGTERM", "the stopped job")


def several_hosts(trial: TrainingTrial) -> Iterator[Found]:
    if trial.tiny.exit_code != 0:
        return
    for host, job in trial.hosts.items():
        if job.exit_code is None:
            yield Found("it did not end, where one host alone did", host)
        elif job.exit_code != 0:
            yield Found(f"exit code {job.exit_code}{last_line(job.log)}", host)


def same_files(trial: TrainingTrial) -> Iterator[Found]:
    seen: dict[str, tuple[str, bytes]] = {}
    for host, job in trial.hosts.items():
        for path, data in job.model.items():
            if path in seen and seen[path][1] != data:
                yield Found(f"{path} differs between {seen[path][0]} and {host}", "/opt/ml/model")
                return
            seen.setdefault(path, (host, data))


def _jobs(trial: TrainingTrial) -> list[tuple[str, Job]]:
    found = [("the tiny job", trial.tiny)]
    if trial.broken is not None:
        found.append(("the job with broken hyperparameters.json", trial.broken))
    return found


RULES: tuple[Rule[TrainingTrial], ...] = (
    Rule(
        "TRN001",
        Severity.ERROR,
        "The container can't be started for training",
        "SageMaker runs IMAGE train; the job fails before its first line of log.",
        'Write ENTRYPOINT ["program"], or install an executable `train` on PATH',
        started,
    ),
    Rule(
        "TRN002",
        Severity.WARNING,
        "The tiny job failed",
        "It may be for want of data: the check has only the channels and hyperparameters that it "
        "was given.",
        "byoc check IMAGE --train --channel train=DIR --hp KEY=VALUE",
        worked,
    ),
    Rule(
        "TRN003",
        Severity.WARNING,
        "A job fails without a failure file",
        "FailureReason then says AlgorithmError and an exit code, and nothing of the cause.",
        "Write the error to /opt/ml/output/failure before exiting; `train` of this project does",
        failure_file,
    ),
    Rule(
        "TRN004",
        Severity.ERROR,
        "A failed job exits with 0",
        "SageMaker knows the exit code alone: the job counts as Completed, and a model is packed.",
        "Exit with a code other than 0 after writing /opt/ml/output/failure",
        honest_exit,
    ),
    Rule(
        "TRN005",
        Severity.WARNING,
        "The job completes without a model",
        "SageMaker packs /opt/ml/model and nothing else as model.tar.gz.",
        "Save the model to /opt/ml/model, which SM_MODEL_DIR names",
        model_written,
    ),
    Rule(
        "TRN006",
        Severity.WARNING,
        "The failure file is longer than what is shown",
        "FailureReason keeps its first 1024 characters; of a traceback the cause comes last.",
        "Write the exception's own line first",
        failure_length,
    ),
    Rule(
        "TRN007",
        Severity.ERROR,
        "SIGTERM does not end the job",
        "A stop, the maximum runtime and a spot reclaim all send SIGTERM, and SIGKILL 120 s later. "
        "As process 1 a program without a handler never gets it: nothing is saved.",
        "Handle SIGTERM in process 1, and pass it on; `train` of this project does",
        stops,
    ),
    Rule(
        "TRN008",
        Severity.WARNING,
        "The job works on one host and not on two",
        "With InstanceCount above 1 every host runs the same program and must find the others in "
        "/opt/ml/input/config/resourceconfig.json.",
        "Read hosts and current_host; or never ask for more than one instance",
        several_hosts,
    ),
    Rule(
        "TRN009",
        Severity.WARNING,
        "Two hosts write the same model file with different content",
        "SageMaker merges all hosts' /opt/ml/model into one archive: one of the two is lost.",
        "Write the model on the first of the hosts only",
        same_files,
    ),
    Rule(
        "TRN010",
        Severity.ERROR,
        "The image lacks what the program needs",
        "It would fail with any data: a module, a library, a file or a right is missing.",
        "Install it in the image",
        complete,
    ),
)
