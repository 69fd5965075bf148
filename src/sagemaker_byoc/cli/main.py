"""`byoc`: the parser, the dispatch, and the one place that turns errors into exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Protocol, cast

from sagemaker_byoc import __version__
from sagemaker_byoc.cli.terminal import console, failures, signals
from sagemaker_byoc.cli.terminal.arguments import QUIET, VERBOSE, Parser, add_verbosity


class Command(Protocol):
    """What the module of a command has."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int:
        """Return the exit code. Raise a ByocError with what is wrong and the hint."""


COMMANDS: Mapping[str, str] = {
    "init": "commands.init",
    "train": "commands.train",
    "serve": "commands.serve",
    "invoke": "commands.invoke",
    "build": "commands.build",
    "check": "commands.check",
    "push": "commands.push",
    "launch": "commands.launch",
    "local": "commands.local",
    "ps": "commands.ps",
    "runs": "commands.runs",
    "logs": "commands.logs",
    "monitor": "commands.monitor",
    "stop": "commands.stop",
    "interrupt": "commands.stop:Interrupt",
    "doctor": "commands.doctor",
    "completion": "terminal.completion",
}
"""Where each command is; imported when it is wanted: no command pays for another's imports."""


def load(name: str) -> Command:
    module, _, attribute = COMMANDS[name].partition(":")
    found = import_module(f"sagemaker_byoc.cli.{module}")
    return cast("Command", getattr(found, attribute) if attribute else found)


def parser(names: Iterable[str] = COMMANDS) -> argparse.ArgumentParser:
    root = Parser(
        prog="byoc",
        description="Bring your own container to SageMaker, and SageMaker to your own machine.",
    )
    root.add_argument("--version", action="version", version=f"byoc {__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in names:
        command = load(name)
        command.add_arguments(
            commands.add_parser(name, help=command.HELP, description=command.HELP)
        )
    add_verbosity(root)
    return root


def _wanted(arguments: Sequence[str]) -> Iterable[str]:
    """Return the command that is named first; none for --version; else all, to list them."""
    first = next((word for word in arguments if word not in QUIET + VERBOSE), "")
    if first == "--version":
        return ()
    return (first,) if first in COMMANDS else COMMANDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; never raises for what a user can cause."""
    words = sys.argv[1:] if arguments is None else arguments
    with signals.handled() as received:
        try:
            return _run(words)
        except signals.Interrupted:
            return received.exit_code
        except KeyboardInterrupt:
            return failures.INTERRUPTED
        except BrokenPipeError:
            # The reader of our results is gone; what the interpreter still flushes goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return received.exit_code if received.number else failures.PIPE_CLOSED


def _run(words: Sequence[str]) -> int:
    try:
        namespace = parser(_wanted(words)).parse_args(words)
    except SystemExit as end:  # argparse's way to say --help, --version, or a refusal
        return int(end.code or 0)
    console.set_verbosity(
        quiet=getattr(namespace, "quiet", False), verbose=getattr(namespace, "verbose", False)
    )
    try:
        return load(namespace.command).run(namespace)
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the one place that explains them all
        failure = failures.explain(error)
        console.error(failure.what, failure.hint, failure.id)
        return failure.exit_code
    finally:
        console.set_verbosity()
