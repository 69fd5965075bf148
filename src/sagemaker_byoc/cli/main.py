"""`byoc`: the parser, the dispatch, and the one place that turns errors into exit codes.

0  done          2  the request is wrong           130  interrupted
1  it failed     3  this machine can't do it
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Protocol

from sagemaker_byoc import __version__
from sagemaker_byoc.cli import (
    build,
    check,
    console,
    interrupt,
    local,
    logs,
    ps,
    runs,
    serve,
    stop,
    train,
)
from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.images.errors import ImageError
from sagemaker_byoc.local.errors import LocalError

FAILED = 1
USAGE = 2
INTERRUPTED = 130


class Command(Protocol):
    """What each command's module has."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int:
        """The exit code. Raises LocalError, ImageError, ContractError."""


COMMANDS: Mapping[str, Command] = {
    "train": train,
    "serve": serve,
    "build": build,
    "check": check,
    "local": local,
    "ps": ps,
    "runs": runs,
    "logs": logs,
    "stop": stop,
    "interrupt": interrupt,
}


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
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
    namespace = parser().parse_args(arguments)
    try:
        return COMMANDS[namespace.command].run(namespace)
    except (LocalError, ImageError) as error:
        console.error(error.what, error.cure)
        return error.exit_code
    except ContractError as error:
        console.error(f"{error.where}: {error.what}", error.cure)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
