"""`byoc events`: what happened in a region, from the file of its events."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sagemaker_byoc.cli import target
from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.region.core.event_bus import EVENTS_FILE

HELP = "Print the events of a region: each change of a job, a model or an endpoint."
_POLL_SECONDS = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    target.add_state(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="keep printing new events")
    parser.add_argument(
        "--json", action="store_true", help="print each event as AWS sends it, one object per line"
    )


def run(arguments: argparse.Namespace) -> int:
    state = target.state_folder(arguments)
    path = state / EVENTS_FILE
    if not path.exists() and not arguments.follow:
        raise RequestError(
            f"{state} has no events",
            hint="Name the folder of a region with --state; a region writes its first event "
            "when something happens in it",
        )
    for line in _lines(path, follow=arguments.follow):
        if arguments.json:
            console.result(line)
        else:
            console.result(_row(line))
    return 0


def _lines(path: Path, *, follow: bool) -> Iterator[str]:
    """Yield the whole lines of the older file and of `path`, and then of each that replaces it."""
    for name in (path.with_name(f"{path.name}.1"), path):
        while follow and name == path and not path.exists():
            time.sleep(_POLL_SECONDS)
        if name.exists():
            yield from _lines_of(name, follow=follow and name == path)


def _lines_of(path: Path, *, follow: bool) -> Iterator[str]:
    file = open(path, encoding="utf-8", errors="replace")  # noqa: SIM115 - closed below
    try:
        part = ""
        while True:
            is_replaced = follow and not _is_same(path, file.fileno())
            part += file.readline()
            if part.endswith("\n"):
                yield part.rstrip("\n")
                part = ""
            elif is_replaced:  # read to its end after it was replaced
                file.close()
                file, part = open(path, encoding="utf-8", errors="replace"), ""  # noqa: SIM115
            elif follow:
                time.sleep(_POLL_SECONDS)
            else:
                return
    finally:
        file.close()


def _is_same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:  # between two files
        return True


def _row(line: str) -> str:
    """Return `TIME  DETAIL-TYPE  RESOURCE  STATUS`, or the line itself if it is not an event."""
    try:
        event = json.loads(line)
        resources = ", ".join(each.rpartition(":")[2] for each in event["resources"])
        status = _status(event["detail"], event["resources"])
        words = (event["time"], event["detail-type"], resources, status)
    except (ValueError, LookupError, TypeError, AttributeError):
        return line
    return "  ".join(word for word in words if word)


def _status(detail: Mapping[str, Any], resources: Sequence[str]) -> str:
    """Return the status, whose member begins as that with the ARN, and the secondary one."""
    kinds = [name.removesuffix("Arn") for name, value in detail.items() if value in resources]
    names = (*(f"{kind}Status" for kind in kinds), "SecondaryStatus", "ModelApprovalStatus")
    return " ".join(dict.fromkeys(str(detail[name]) for name in names if name in detail))
