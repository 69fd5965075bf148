"""`byoc init`: a small project that trains, serves, builds and is tested from the start."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.contract import installation
from sagemaker_byoc.images.build import project

HELP = "Write a small project to start from; no file is overwritten."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path(),
        metavar="DIR",
        help="folder of the project (default: this one)",
    )
    parser.add_argument("--name", help="name of its images and jobs (default: the folder's)")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder
    name = arguments.name or project.name_of(folder)
    files = project.write(folder, name)
    next_commands = [
        *_installations(),
        "byoc train --output byoc-jobs/first",
        "byoc serve --model byoc-jobs/first/model.tar.gz",
        "byoc build train",
    ]
    if folder.resolve() != Path.cwd():
        next_commands[0] = f"cd {shlex.quote(str(folder))} && {next_commands[0]}"
    if arguments.json:
        found = {"folder": str(folder), "name": name, "files": [str(path) for path in files]}
        console.document(found | {"next": next_commands})
        return 0
    for path in files:
        console.detail(str(folder / path))
    console.step(f"project {name}, {len(files)} files; next:")
    for command in next_commands:
        console.result(command)
    return 0


def _installations() -> Iterator[str]:
    """Yield commands for what the project's programs need and this Python lacks."""
    if installation.missing("serve"):
        yield installation.add_extra("serve")
    if find_spec("torch") is None:
        yield installation.add_package("torch")
