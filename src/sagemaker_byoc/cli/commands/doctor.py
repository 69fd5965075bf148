"""`byoc doctor`: what this machine has, what is missing, and the fix for each."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict

from sagemaker_byoc.cli import machine, programs
from sagemaker_byoc.cli.terminal import console, failures

HELP = "Check this machine: Python, extras, engine, builder, GPUs, disk, ports, AWS."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine",
        choices=programs.ENGINES,
        default="process",
        help="docker: a missing Docker engine is an error (default: a warning)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    needs_docker = arguments.engine == "docker"
    here = machine.Machine(environment=os.environ, needs_docker=needs_docker)
    checks = [*machine.examine(here)]
    broken = [check for check in checks if check.state == machine.ERROR]
    if arguments.json:
        console.document({"ok": not broken, "checks": [asdict(check) for check in checks]})
    else:
        console.result(_report(checks))
        lacking = sum(check.state == machine.WARNING for check in checks)
        console.step(
            f"{_count(len(broken), 'error')}, {_count(lacking, 'warning')} in {len(checks)} checks"
        )
    return failures.FAILED if broken else failures.DONE


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _report(checks: Sequence[machine.Check]) -> str:
    width = max(len(check.title) for check in checks)
    lines: list[str] = []
    for check in checks:
        start = f"{check.state:7}  {check.id}  {check.title.ljust(width)}  "
        lines.append(f"{start}{check.found}")
        if check.fix:
            lines.append(f"{' ' * len(start)}fix: {check.fix}")
    return "\n".join(lines)
