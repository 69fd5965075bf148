"""`byoc train`: one training job on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sagemaker_byoc.cli import programs
from sagemaker_byoc.cli.terminal import arguments as types
from sagemaker_byoc.cli.terminal import console, failures, signals
from sagemaker_byoc.cli.terminal.progress import Progress
from sagemaker_byoc.contract.archives import MODEL_ARCHIVE, OUTPUT_ARCHIVE
from sagemaker_byoc.contract.errors import JobError
from sagemaker_byoc.contract.variables import CODE_COMMIT, CODE_REPOSITORY
from sagemaker_byoc.images.build.labels import read_commit
from sagemaker_byoc.region.containers.hosts import failure_text
from sagemaker_byoc.region.engines.container import Engine, GivenUpError
from sagemaker_byoc.standalone.training_job import (
    DEFAULT_IMAGE,
    Status,
    StopSwitch,
    TrainingRequest,
    TrainingResult,
    Transcript,
    prepared_job,
    run_training_job,
    write_record,
)

HELP = "Run a training program as SageMaker would, on this machine."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    programs.add_program(parser)
    parser.add_argument(
        "--channel",
        action="append",
        default=[],
        type=types.pair,
        metavar="NAME=DIR",
        help="input data of a channel; may be repeated",
    )
    parser.add_argument(
        "--hp",
        nargs="+",
        action="extend",
        default=[],
        type=types.pair,
        metavar="KEY=VALUE",
        help="hyperparameters; may be repeated; or give them after -- as options of the program",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="write the artifacts here (default: byoc-jobs/NAME)",
    )
    parser.add_argument("--name", help="name of the job (default: from the program and the time)")
    programs.add_engine(parser, DEFAULT_IMAGE)
    programs.add_shell(parser, "train")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument(
        "--mount",
        action="store_true",
        help="docker: mount the channels read-only instead of copying them, for large data",
    )


def run(arguments: argparse.Namespace) -> int:
    settings = programs.read_settings("train", arguments.program)
    program = programs.parse_program(programs.required(settings.program, "train"))
    name = arguments.name or programs.unique_name(program.name)
    output = arguments.output or Path("byoc-jobs") / name
    programs.check_engine(arguments, "mount", hint="Leave it out: nothing is copied")
    request = TrainingRequest(
        name=name,
        output=output.resolve(),
        program=program.folder.resolve(),
        entry_point=program.entry_point,
        image=programs.image_of(arguments, DEFAULT_IMAGE),
        channels=programs.channels(settings, arguments),
        hyperparameters=programs.hyperparameters(settings, arguments),
        environment={
            **_origin(program.folder),
            **programs.parse_pairs("--env", arguments.env),
        },
    )
    with Progress() as copying:
        engine = programs.make_engine(
            arguments.engine, mount_inputs=arguments.mount, copying=copying
        )
        programs.sweep(engine)
        if arguments.shell:
            with prepared_job(request, engine) as spec:
                return programs.open_shell(engine, spec, "train")
        return _train(request, engine, program.folder, copying, as_json=arguments.json)


def _train(
    request: TrainingRequest, engine: Engine, folder: Path, copying: Progress, *, as_json: bool
) -> int:
    name = request.name
    console.step(f"training job {name} ({engine.name})")
    transcript = Transcript(request.output)

    def on_line(line: str) -> None:
        console.log_line("algo-1", line)
        transcript.write(line)

    try:
        with _stop_on_signal() as stop, closing(transcript):
            result = run_training_job(request, engine, on_line, stop, copying)
    except GivenUpError:
        return signals.received().exit_code
    if transcript.problem:
        console.detail(f"the log is incomplete: {transcript.problem}")
    try:
        write_record(request, result)
    except OSError as error:
        console.detail(f"`byoc runs` won't list it: {error.filename}: {error.strerror}")
    _report(result, request, as_json=as_json)
    if signals.received().number:
        return signals.received().exit_code
    if result.status is not Status.COMPLETED:
        cause = _reason(result) or f"the program ended with exit code {result.exit_code}"
        hint = failures.hint_for("train", folder, cause)
        raise JobError(cause, hint=hint or f"Correct the program; its log: {_near(transcript.log)}")
    return failures.DONE


def _near(path: Path) -> Path:
    """Return the path relative to this folder if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _origin(folder: Path) -> dict[str, str]:
    """Return the program's commit for its record: a copy in a container has no repository."""
    commit = read_commit(folder)
    return {CODE_COMMIT: commit.revision, CODE_REPOSITORY: commit.source} if commit.id else {}


@contextmanager
def _stop_on_signal() -> Iterator[StopSwitch]:
    """Stop the job at the first signal, so that it saves; kill it at the next Ctrl-C."""
    stop = StopSwitch()

    def ask() -> None:
        signals.say("stopping: it has 120 s to save its model; Ctrl-C again kills it")
        stop.ask()

    def hurry() -> None:
        signals.say("killing it; Ctrl-C once more gives up what it wrote")
        stop.hurry()

    with signals.received().asking(ask, hurry):
        yield stop


def _report(result: TrainingResult, request: TrainingRequest, *, as_json: bool) -> None:
    console.step(f"{result.status} in {result.seconds:.1f} s, exit code {result.exit_code}")
    if result.status is Status.STOPPED:
        for line in _reason(result).splitlines():
            console.detail(line)
    if result.output is not None:
        console.detail(f"output data: {result.output}")
    for made, name in ((result.model, MODEL_ARCHIVE), (result.output, OUTPUT_ARCHIVE)):
        if made is None and (request.output / name).exists():
            console.detail(f"{_near(request.output / name)} is an earlier job's")
    if as_json:
        console.document(_members(result, request.name))
    elif result.model is not None:
        console.result(str(result.model))
    elif result.status is Status.COMPLETED:
        console.detail("the program left /opt/ml/model empty: there is no model.tar.gz")


def _reason(result: TrainingResult) -> str:
    """Return the reason, empty if the container gave none, as when it ends before its program."""
    reason = result.failure_reason or ""
    return "" if reason == failure_text("", result.exit_code) else reason


def _members(result: TrainingResult, name: str) -> dict[str, object]:
    return {
        "name": name,
        "status": result.status.value,
        "exitCode": result.exit_code,
        "failureReason": result.failure_reason,
        "model": None if result.model is None else str(result.model),
        "output": None if result.output is None else str(result.output),
        "seconds": round(result.seconds, 3),
    }
