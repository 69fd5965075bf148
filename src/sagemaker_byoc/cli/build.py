"""`byoc build`: an image of a program, for the engine that will run it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sagemaker_byoc.cli import console, options, target
from sagemaker_byoc.local import build

HELP = "Make an image of a program: a Docker image, or a recorded program for --engine process."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=[*build.BASES], help="what the image is for")
    parser.add_argument("program", type=Path, metavar="PROGRAM", help="its folder, or its file")
    parser.add_argument(
        "-t", "--tag", required=True, metavar="NAME", help="REPOSITORY or REPOSITORY:TAG"
    )
    parser.add_argument(
        "--engine",
        choices=options.ENGINES,
        default="process",
        help="process: a copy of the program, recorded in --state (default); docker: an image",
    )
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="process: the region's folder (default: that of `byoc local up`); docker has its own",
    )
    parser.add_argument(
        "--python",
        type=Path,
        default=Path(sys.executable),
        metavar="FILE",
        help="process: the Python that will run it (default: this one)",
    )


def run(arguments: argparse.Namespace) -> int:
    program = options.parse_program(arguments.program)
    wanted = build.Build(
        kind=arguments.kind,
        program=program.folder.resolve(),
        entry_point=program.entry_point,
        tag=arguments.tag,
    )
    if arguments.engine == "docker":
        digest = build.build_image(wanted)
    else:
        state = target.state_folder(arguments)
        # Not resolved: a venv's python is a link, and the venv is found by the link's place.
        digest = build.record(wanted, state, arguments.python.absolute())
    console.step(f"image {arguments.tag} ({arguments.engine})")
    console.result(digest)
    return 0
