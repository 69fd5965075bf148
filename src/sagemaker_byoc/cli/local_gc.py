"""`byoc local gc`: remove what regions that were killed left behind."""

from __future__ import annotations

import argparse

from sagemaker_byoc.cli import console

HELP = "Remove containers and temporary folders of regions that no longer run."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def run(arguments: argparse.Namespace) -> int:
    from sagemaker_byoc.local import leftovers  # noqa: PLC0415 - POSIX only

    found = leftovers.find()
    for kind, names in (
        ("container", found.containers),
        ("network", found.networks),
        ("folder", found.folders),
    ):
        for name in names:
            console.result(f"{kind} {name}")
    if not arguments.dry_run:
        found.remove()
    count = len(found.containers) + len(found.networks) + len(found.folders)
    console.step(f"{count} {'found' if arguments.dry_run else 'removed'}")
    return 0
