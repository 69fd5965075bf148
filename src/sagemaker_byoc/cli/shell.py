"""--shell of `byoc train` and `byoc serve`: look around in the container before anything runs."""

from __future__ import annotations

import argparse

from sagemaker_byoc.cli.terminal import console, signals
from sagemaker_byoc.region.engines.container import ContainerSpec, ShellEngine


def add_argument(parser: argparse.ArgumentParser, command: str) -> None:
    parser.add_argument(
        "--shell",
        action="store_true",
        help=f"a shell in the container in place of `{command}`, which can be started there; "
        "nothing of it is kept",
    )


def attend(engine: ShellEngine, spec: ContainerSpec, command: str) -> int:
    """Return the exit code of the shell, or that of the signal that ended it."""
    console.step(f"a shell in the container; `{command}` starts what would run, `exit` removes it")
    received = signals.received()
    with engine.shell(spec) as process, received.leaving_terminal_to(process):
        code = process.wait()
    return received.exit_code if received.number else code
