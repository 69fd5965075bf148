"""`byoc completion`: print a script that completes commands and flags in bash, zsh or fish."""

from __future__ import annotations

import argparse

from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.cli.terminal.arguments import actions, below

HELP = "Print a shell's completion script."
SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS)


def run(arguments: argparse.Namespace) -> int:
    from sagemaker_byoc.cli.main import parser  # noqa: PLC0415 - which imports this

    console.result(script(arguments.shell, parser()))
    return 0


def script(shell: str, parser: argparse.ArgumentParser) -> str:
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
