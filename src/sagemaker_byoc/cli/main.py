"""`byoc`: the parser, the dispatch, and the one place that turns errors into exit codes.

0  done          2  the request is wrong           130  interrupted
1  it failed     3  this machine can't do it
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence

from sagemaker_byoc import __version__
from sagemaker_byoc.cli import console, serve, train
from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.local.errors import LocalError

FAILED = 1
USAGE = 2
INTERRUPTED = 130

COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "train": train.run,
    "serve": serve.run,
}


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="byoc",
        description="Bring your own container to SageMaker, and SageMaker to your own machine.",
    )
    root.add_argument("--version", action="version", version=f"byoc {__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    train.add_arguments(commands.add_parser("train", help=train.HELP, description=train.HELP))
    serve.add_arguments(commands.add_parser("serve", help=serve.HELP, description=serve.HELP))
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; never raises for what a user can cause."""
    namespace = parser().parse_args(arguments)
    try:
        return COMMANDS[namespace.command](namespace)
    except LocalError as error:
        console.error(error.what, error.cure)
        return error.exit_code
    except ContractError as error:
        console.error(f"{error.where}: {error.what}", error.cure)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
