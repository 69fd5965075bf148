"""`byoc`: the parser, the dispatch, and the one place that turns errors into exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Protocol

from sagemaker_byoc import __version__
from sagemaker_byoc.cli import (
    build,
    check,
    completion,
    console,
    doctor,
    failures,
    init,
    interrupt,
    launch,
    local,
    logs,
    monitor,
    ps,
    push,
    runs,
    serve,
    stop,
    train,
)
from sagemaker_byoc.cli.arguments import Parser


class Command(Protocol):
    """What each command's module has."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int:
        """The exit code. Raises the errors of the rooms, each with what is wrong and the cure."""


COMMANDS: Mapping[str, Command] = {
    "init": init,
    "train": train,
    "serve": serve,
    "build": build,
    "check": check,
    "push": push,
    "launch": launch,
    "local": local,
    "ps": ps,
    "runs": runs,
    "logs": logs,
    "monitor": monitor,
    "stop": stop,
    "interrupt": interrupt,
    "doctor": doctor,
    "completion": completion,
}


def parser() -> argparse.ArgumentParser:
    root = Parser(
        prog="byoc",
        description="Bring your own container to SageMaker, and SageMaker to your own machine.",
    )
    root.add_argument("--version", action="version", version=f"byoc {__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_arguments(
            commands.add_parser(name, help=command.HELP, description=command.HELP)
        )
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; never raises for what a user can cause."""
    try:
        namespace = parser().parse_args(arguments)
    except SystemExit as end:  # argparse's way to say --help, --version, or a refusal
        return int(end.code or 0)
    try:
        return COMMANDS[namespace.command].run(namespace)
    except BrokenPipeError:
        # Who read our results has left; what the interpreter still flushes goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return failures.PIPE_CLOSED
    except Exception as error:
        if failures.wants_traceback():
            raise
        failure = failures.explain(error)
        console.error(failure.what, failure.cure, failure.id)
        return failure.exit_code
    except KeyboardInterrupt:
        return failures.INTERRUPTED
