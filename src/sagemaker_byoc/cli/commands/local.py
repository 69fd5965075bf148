"""`byoc local`: a region on this machine, its start, its environment, its end."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

from sagemaker_byoc.cli.commands import local_down, local_env, local_gc, local_up

HELP = "A SageMaker region on this machine: up, env, down, gc."

_RUN: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "up": local_up.run,
    "env": local_env.run,
    "down": local_down.run,
    "gc": local_gc.run,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, module in (
        ("up", local_up),
        ("env", local_env),
        ("down", local_down),
        ("gc", local_gc),
    ):
        module.add_arguments(actions.add_parser(name, help=module.HELP, description=module.HELP))


def run(arguments: argparse.Namespace) -> int:
    return _RUN[arguments.action](arguments)
