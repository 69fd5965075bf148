"""`byoc serve`: one endpoint on this machine, until it is interrupted."""

from __future__ import annotations

import argparse
import ast
import os
import shlex
import signal
import threading
from importlib.util import find_spec
from pathlib import Path

from sagemaker_byoc.cli import programs
from sagemaker_byoc.cli.terminal import arguments as types
from sagemaker_byoc.cli.terminal import console, failures, signals
from sagemaker_byoc.cli.terminal.progress import Progress
from sagemaker_byoc.contract import archives, folders, http
from sagemaker_byoc.contract.errors import MachineError, RequestError
from sagemaker_byoc.contract.installation import add_extra
from sagemaker_byoc.contract.training.runs import RUN_FILE
from sagemaker_byoc.host import owners
from sagemaker_byoc.host.ports import free_port
from sagemaker_byoc.region.containers.health import EndpointError
from sagemaker_byoc.region.engines.container import Engine, GivenUpError
from sagemaker_byoc.standalone.endpoint import (
    DEFAULT_IMAGE,
    EndpointRequest,
    open_endpoint,
    prepare,
)
from sagemaker_byoc.standalone.reloading import Listeners, Reloading

HELP = "Serve a model as SageMaker would, on this machine."
_WATCH_SECONDS = 1.0
_MOST_SOURCE = 1 << 20
"""Bytes of a source file."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "program",
        type=Path,
        nargs="?",
        metavar="PROGRAM",
        help="the folder of inference.py, or its file (default: what [tool.byoc.serve] of "
        "./pyproject.toml says, or none if the model needs none)",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="DIR|model.tar.gz",
        help="the model: the archive that `byoc train` wrote, or its folder",
    )
    parser.add_argument(
        "--port",
        type=types.port,
        default=http.PORT.value,
        help="port on 127.0.0.1 (default: 8080; 0: any free one)",
    )
    parser.add_argument(
        "--startup-timeout",
        type=types.seconds(3600),
        default=http.STARTUP_TIMEOUT.value,
        metavar="SECONDS",
        help=f"longest time until /ping answers 200 (default: {http.STARTUP_TIMEOUT.value})",
    )
    parser.add_argument(
        "--reload",
        action="store_true",
        help="restart when a file of the program or the model changes; the old container "
        "serves until the new one is healthy",
    )
    programs.add_shell(parser, "serve")
    programs.add_engine(parser, DEFAULT_IMAGE)
    parser.add_argument("--json", action="store_true", help="print the address as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    named = programs.read_settings("serve", arguments.program).program
    program = None if named is None else _program(named)
    model = _model(arguments.model)
    if program is None and Path(http.DEFAULT_PROGRAM.value).is_file():
        console.detail("./inference.py is not used: `byoc serve .` takes it")
    if arguments.engine == "process":
        _require_packages()
    with Progress() as copying:
        engine = programs.make_engine(arguments.engine, copying=copying)
        programs.sweep(engine)
        folder = owners.make_folder("command")
        try:
            request = _request(arguments, program, model, folder / "work")
            if arguments.shell:
                return programs.open_shell(engine, prepare(request, copying), "serve")
            console.step(f"endpoint {request.name} ({engine.name})")
            if arguments.reload:
                return _follow(request, engine, as_json=arguments.json)
            return _serve(request, engine, copying, as_json=arguments.json)
        except (EndpointError, GivenUpError) as error:
            if signals.received().number:
                return signals.received().exit_code
            if isinstance(error, EndpointError):
                raise explained(error, program) from error
            raise
        finally:
            folders.remove(folder)


def _request(
    arguments: argparse.Namespace, program: programs.Program | None, model: Path, work: Path
) -> EndpointRequest:
    return EndpointRequest(
        name=programs.unique_name(program.name if program else "model"),
        work=work,
        model=model.resolve(),
        port=arguments.port or free_port(),
        program=None if program is None else program.folder.resolve(),
        entry_point=None if program is None else program.entry_point,
        image=programs.image_of(arguments, DEFAULT_IMAGE),
        environment=programs.parse_pairs("--env", arguments.env),
        startup_timeout=arguments.startup_timeout,
    )


def _require_packages() -> None:
    """Raise MachineError if a package is missing without which the server would end."""
    lacking = [name for name in http.PACKAGES if find_spec(name) is None]
    if lacking:
        raise MachineError(
            f"the server needs the Python packages {', '.join(lacking)}",
            hint=f"Run: {add_extra('serve')}",
        )


def _program(path: Path) -> programs.Program:
    """Return the program, with the file that defines the handlers if it has an unusual name.

    Many scripts for SageMaker have `model_fn` beside what trains the model.
    """
    program = programs.parse_program(path, http.DEFAULT_PROGRAM.value)
    usual = (http.DEFAULT_PROGRAM.value, *http.APPLICATIONS)
    if program.entry_point or any((path / name).is_file() for name in usual):
        return program
    found = [file for file in sorted(path.glob("*.py")) if _defines_handlers(file)]
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise RequestError(
            f"{path} has no {usual[0]}, and {names} define model_fn",
            hint=f"Name the file: byoc serve {shlex.quote(str(found[0]))}",
        )
    if found:
        console.step(f"handlers: {found[0]}, as there is no {usual[0]}")
        return programs.Program(path, found[0].name)
    return program


def _defines_handlers(file: Path) -> bool:
    try:
        with open(file, "rb") as opened:
            body = ast.parse(opened.read(_MOST_SOURCE)).body
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(one, ast.FunctionDef) and one.name == "model_fn" for one in body)


def _model(path: Path | None) -> Path:
    """Return what to serve; the archive of the folder that `byoc train` wrote."""
    if path is not None:
        archive = path / archives.MODEL_ARCHIVE
        return archive if archive.is_file() and (path / RUN_FILE).is_file() else path
    found = [*Path("byoc-jobs").glob(f"*/{archives.MODEL_ARCHIVE}")]
    newest = max(found, key=lambda each: each.stat().st_mtime, default=None)
    example = shlex.quote(str(newest)) if newest else "byoc-jobs/NAME/model.tar.gz"
    raise RequestError("there is no --model", hint=f"Name one: --model {example}")


def _serve(request: EndpointRequest, engine: Engine, copying: Progress, *, as_json: bool) -> int:
    """Serve until a signal, or until the container ends by itself, which is a failure."""
    prepared = prepare(request, copying)  # unpacking a large model is interrupted at once
    received = signals.received()
    ended, hurried = threading.Event(), threading.Event()
    with (
        received.asking(ended.set, hurried.set),
        open_endpoint(request, engine, _show, ended, prepared) as endpoint,
    ):
        console.step(f"{endpoint.url} is healthy; Ctrl-C stops it")
        _tell(request, endpoint.url, as_json=as_json)
        while not ended.wait(timeout=_WATCH_SECONDS):
            code = endpoint.exit_code()
            if code is not None:
                raise EndpointError(
                    f"the container ended with exit code {code}", hint="Read its log above"
                )
        code = endpoint.stop(hurried)
    console.step(f"stopped, exit code {code}")
    if code and not hurried.is_set():
        return failures.FAILED
    is_orderly = received.number == signal.SIGTERM and not hurried.is_set()
    return failures.DONE if is_orderly else received.exit_code


def _follow(request: EndpointRequest, engine: Engine, *, as_json: bool) -> int:
    """Serve until a signal; restart at each change of the program or the model."""
    received, ended, hurried = signals.received(), threading.Event(), threading.Event()
    program = None if request.program is None else programs.Program(request.program, None)
    told: list[str] = []

    def healthy(url: str) -> None:
        console.step(f"{url} is healthy; it follows changes, Ctrl-C stops it")
        if not told:
            told.append(url)
            _tell(request, url, as_json=as_json)

    def failed(error: Exception) -> None:
        shown = explained(error, program) if isinstance(error, EndpointError) else error
        failure = failures.explain(shown)
        console.error(failure.what, failure.hint, failure.id)

    listeners = Listeners(line=_show, say=console.step, failed=failed, healthy=healthy)
    with received.asking(ended.set, hurried.set):
        Reloading(request, engine, listeners, ended, hurried).follow()
    console.step("stopped")
    return failures.DONE if received.number == signal.SIGTERM else received.exit_code


def _tell(request: EndpointRequest, url: str, *, as_json: bool) -> None:
    if as_json:
        console.document({"name": request.name, "url": url, "pid": os.getpid()})
    else:
        console.result(url)


def explained(error: EndpointError, program: programs.Program | None) -> EndpointError:
    """Return the error with its cause in place of the log, which is on the terminal already."""
    cause = failures.cause_of(error.last_lines)
    folder = None if program is None else program.folder
    return EndpointError(
        f"{error.event}: {cause}" if cause else error.event,
        hint=failures.hint_for("serve", folder, cause) or error.hint,
    )


def _show(line: str) -> None:
    console.log_line("serve", line)
