"""`byoc local env`: the variables that point AWS clients at the region."""

from __future__ import annotations

import argparse
import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sagemaker_byoc.cli import target
from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.region import environ
from sagemaker_byoc.region.core.account import Account

HELP = 'Print what points AWS clients at the region: eval "$(byoc local env)".'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    target.add_arguments(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--shell", choices=sorted(_SHELLS), default="sh", help="(default: sh)")
    form.add_argument("--json", action="store_true", help='{"NAME": "value", "UNSET": null}')


def run(arguments: argparse.Namespace) -> int:
    region = target.find(arguments)
    status = region.status()
    account = Account(id=status["account"], region=status["region"])
    values = environ.variables(status["url"], Path(status["state"]), account, region.keys)
    names = environ.unset(os.environ)
    if arguments.json:
        console.result(json.dumps(dict.fromkeys(names) | values, indent=2))
        return 0
    for line in _SHELLS[arguments.shell](values, names):
        console.result(line)
    return 0


def _sh(values: Mapping[str, str], names: Sequence[str]) -> list[str]:
    return [f"unset {name}" for name in names] + [
        f"export {name}={shlex.quote(value)}" for name, value in values.items()
    ]


def _fish(values: Mapping[str, str], names: Sequence[str]) -> list[str]:
    return [f"set -e {name};" for name in names] + [
        f"set -gx {name} '{_backslashed(value)}';" for name, value in values.items()
    ]


def _backslashed(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


def _powershell(values: Mapping[str, str], names: Sequence[str]) -> list[str]:
    gone = [f"Remove-Item Env:{name} -ErrorAction SilentlyContinue" for name in names]
    quoted = {name: value.replace("'", "''") for name, value in values.items()}
    return gone + [f"$Env:{name} = '{value}'" for name, value in quoted.items()]


_SHELLS: Mapping[str, Callable[[Mapping[str, str], Sequence[str]], list[str]]] = {
    "sh": _sh,
    "fish": _fish,
    "powershell": _powershell,
}
