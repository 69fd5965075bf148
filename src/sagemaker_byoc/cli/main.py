"""`byoc`: the parser, its completion in shells, the dispatch, and exit codes of errors."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import NamedTuple, cast

from sagemaker_byoc import __version__
from sagemaker_byoc.cli.terminal import console, failures, signals
from sagemaker_byoc.cli.terminal.arguments import (
    QUIET,
    VERBOSE,
    Parser,
    actions,
    add_verbosity,
    below,
)


class Command(NamedTuple):
    """What the module of a command has, or an attribute of a module that has several."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
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
    "ps": "commands.jobs:PS",
    "runs": "commands.runs",
    "logs": "commands.jobs:LOGS",
    "events": "commands.events",
    "monitor": "commands.monitor",
    "stop": "commands.jobs:STOP",
    "interrupt": "commands.jobs:INTERRUPT",
    "doctor": "commands.doctor",
    "completion": "main:COMPLETION",
}
"""Where each command is; imported when it is wanted: no command pays for another's imports."""


def load(name: str) -> Command:
    module, _, attribute = COMMANDS[name].partition(":")
    found = import_module(f"sagemaker_byoc.cli.{module}")
    if attribute:
        return cast("Command", getattr(found, attribute))
    return Command(found.HELP, found.add_arguments, found.run)


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
            commands.add_parser(name, help=command.help, description=command.help)
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


# ── byoc completion ──

SHELLS = ("bash", "zsh", "fish")


def _add_shell(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS)


def _complete(arguments: argparse.Namespace) -> int:
    console.result(completion_script(arguments.shell, parser()))
    return 0


def completion_script(shell: str, parser: argparse.ArgumentParser) -> str:
    """Return the script for one of SHELLS. A value that is not one of a few may be a file."""
    import shtab  # noqa: PLC0415 - of this command alone

    _complete_files(parser, shtab.FILE)
    return str(shtab.complete(parser, shell)).strip()


def _complete_files(parser: argparse.ArgumentParser, complete: object) -> None:
    for action in actions(parser):
        if action.nargs != 0 and not action.choices:
            action.complete = complete  # type: ignore[attr-defined] # where shtab looks
    for command in below(parser).values():
        _complete_files(command, complete)


COMPLETION = Command("Print a shell's completion script.", _add_shell, _complete)
