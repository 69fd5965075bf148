"""`byoc local down`: end a region, and wait until it has ended."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from sagemaker_byoc.cli import target
from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.contract.errors import TimeLimitError

HELP = "End the region; endpoints and jobs get their grace."
_SECONDS = 200.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    target.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one object, for programs")


def run(arguments: argparse.Namespace) -> int:
    from sagemaker_byoc.region.core.state_folder import is_locked  # noqa: PLC0415 - POSIX only

    region = target.find(arguments)
    state = Path(region.status()["state"])
    region.post("down")
    deadline = time.monotonic() + _SECONDS
    while is_locked(state):
        if time.monotonic() > deadline:
            raise TimeLimitError(
                f"the region at {region.url} did not end within {_SECONDS:.0f} s",
                hint=f"Read {state / 'region.log'}; end its process by hand",
            )
        time.sleep(0.05)
    console.step(f"the region at {region.url} has ended; its state stays in {state}")
    if arguments.json:
        console.document({"url": region.url, "state": str(state)})
    return 0
