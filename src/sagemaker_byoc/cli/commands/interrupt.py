"""`byoc interrupt`: take a spot job's instances away, as the spot market would."""

from __future__ import annotations

import argparse

from sagemaker_byoc.cli import target
from sagemaker_byoc.cli.terminal import console

HELP = "Interrupt a managed spot training job; it is started again from its checkpoints."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="JOB")
    target.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one object, for programs")


def run(arguments: argparse.Namespace) -> int:
    target.find(arguments).post(f"interrupt/{arguments.name}")
    console.step(f"training job {arguments.name} is interrupted")
    if arguments.json:
        console.document({"kind": "job", "name": arguments.name, "status": "Interrupted"})
    return 0
