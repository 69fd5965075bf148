"""`byoc local gc`: remove what regions that were killed left behind."""

from __future__ import annotations

import argparse

from sagemaker_byoc.cli import console

HELP = "Remove containers and temporary folders of regions that no longer run."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    parser.add_argument("--json", action="store_true", help="one object, for programs")


def run(arguments: argparse.Namespace) -> int:
    from sagemaker_byoc.local import leftovers  # noqa: PLC0415 - POSIX only

    found = leftovers.find()
    kinds = {
        "container": [*found.containers],
        "network": [*found.networks],
        "folder": [str(folder) for folder in found.folders],
    }
    if not arguments.dry_run:
        found.remove()
    if arguments.json:
        document = {f"{kind}s": names for kind, names in kinds.items()}
        console.document({**document, "removed": not arguments.dry_run})
    else:
        for kind, names in kinds.items():
            for name in names:
                console.result(f"{kind} {name}")
    count = len(found.containers) + len(found.networks) + len(found.folders)
    console.step(f"{count} {'found' if arguments.dry_run else 'removed'}")
    return 0
