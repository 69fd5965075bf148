"""`byoc local gc`: remove what regions that were killed left behind."""

from __future__ import annotations

import argparse

from sagemaker_byoc.cli.terminal import console

HELP = "Remove containers and temporary folders of regions that no longer run."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    parser.add_argument(
        "--remove",
        action="append",
        default=[],
        metavar="NAME",
        help="remove this container, network or folder as well, whatever its region does",
    )
    parser.add_argument("--json", action="store_true", help="one object, for programs")


def run(arguments: argparse.Namespace) -> int:
    from sagemaker_byoc.region.containers import leftovers  # noqa: PLC0415 - POSIX only

    things, problems = leftovers.find()
    found = leftovers.chosen(things, arguments.remove)
    if not arguments.dry_run:
        problems += leftovers.remove(found)
    left = [
        f"{thing.kind} {thing.name} of {thing.owner}: {thing.life.value}"
        for thing in things
        if thing.life is leftovers.Life.HIDDEN and thing not in found
    ]
    if arguments.json:
        kinds = {
            f"{kind}s": [thing.name for thing in found if thing.kind == kind]
            for kind in ("container", "network", "folder")
        }
        removed = not arguments.dry_run
        console.document({**kinds, "removed": removed, "left": left, "problems": problems})
    else:
        for thing in found:
            console.result(f"{thing.kind} {thing.name}")
    for line in left:
        console.step(f"left alone: {line}; remove it with --remove NAME")
    for line in problems:
        console.step(f"not looked at, or not removed: {line}")
    console.step(f"{len(found)} {'found' if arguments.dry_run else 'removed'}")
    return 1 if problems else 0
