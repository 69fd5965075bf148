"""`byoc local`: start a region on this machine, print its environment, stop it, clean up."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sagemaker_byoc.cli import programs, target
from sagemaker_byoc.cli.main import Command
from sagemaker_byoc.cli.terminal import arguments as types
from sagemaker_byoc.cli.terminal import console, signals
from sagemaker_byoc.contract.errors import MachineError, TimeLimitError

if TYPE_CHECKING:
    from sagemaker_byoc.region.region import Region

HELP = "Run a SageMaker region on this machine: up, env, down, gc."
DEFAULT_PORT = 8321
_STARTING_SECONDS = 90.0
_STOPPING_SECONDS = 200.0
_LOG_LINES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, action in _ACTIONS.items():
        parser = actions.add_parser(name, help=action.help, description=action.help)
        action.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    return _ACTIONS[arguments.action].run(arguments)


# ── up ──


def _add_up(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port",
        type=types.port,
        default=DEFAULT_PORT,
        help=f"port on 127.0.0.1 (default: {DEFAULT_PORT}; 0: any free one)",
    )
    target.add_state(parser)
    parser.add_argument(
        "--engine",
        choices=programs.ENGINES,
        default="process",
        help="run containers as plain processes (default), or in Docker",
    )
    parser.add_argument(
        "--open",
        action="store_true",
        help="accept requests with any signature or none, from every user of this machine",
    )
    parser.add_argument(
        "--no-fsync",
        action="store_true",
        help="do not wait for the disk after a change of an object: for regions that are thrown"
        " away, because a power cut may lose or tear objects that were stored",
    )
    parser.add_argument("--json", action="store_true", help="print the address as one JSON object")
    parser.add_argument(
        "--detach", action="store_true", help="run it in the background, and return once it answers"
    )


def _up(arguments: argparse.Namespace) -> int:
    with target.explained_imports():
        from sagemaker_byoc.region.region import Region  # noqa: PLC0415 - an extra of the package
    state = target.state_folder(arguments)
    if arguments.detach:
        return _detach(arguments, state)
    received, asked = signals.received(), threading.Event()
    with received.asking(asked.set):
        region = Region(
            state,
            port=arguments.port,
            engine=arguments.engine,
            is_open=arguments.open,
            fsync=not arguments.no_fsync,
        )
        region.start()
        try:
            _announce(region, as_json=arguments.json)
            while not asked.is_set() and not region.ended.wait(timeout=0.2):
                pass
        finally:
            console.step(
                "stopping: endpoints and jobs get their grace period; Ctrl-C again quits at once"
            )
            region.close()
    return 0 if received.number in {0, signal.SIGTERM} else received.exit_code


def _announce(region: Region, *, as_json: bool) -> None:
    console.step(f"region {region.account.region} at {region.url} ({region.engine} engine)")
    console.detail(f"state: {region.state}")
    console.detail('in another terminal: eval "$(byoc local env)"')
    if region.is_open:
        _warn_open()
    if not region.fsync:
        _warn_no_fsync()
    _result(region.url, region.state, region.engine, os.getpid(), as_json=as_json)


def _warn_open() -> None:
    console.detail("open: no key is checked, so every user and container here may run programs")


def _warn_no_fsync() -> None:
    console.detail("no fsync: a power cut may lose or tear objects that were stored")


def _result(url: str, state: Path, engine: str, pid: int, *, as_json: bool) -> None:
    if as_json:
        console.document({"url": url, "state": str(state), "engine": engine, "pid": pid})
    else:
        console.result(url)


def _detach(arguments: argparse.Namespace, state: Path) -> int:
    from sagemaker_byoc.region.core.state_folder import LOG_FILE, make_private, read_address  # noqa: PLC0415

    if (other := read_address(state)) is not None:
        raise MachineError(
            f"{state} is in use by the region at {other.url}",
            hint="Use that region, or stop it with `byoc local down`",
        )
    make_private(state)
    command = [sys.executable, "-m", "sagemaker_byoc.cli", "local", "up"]
    command += ["--state", str(state), "--port", str(arguments.port)]
    command += ["--engine", arguments.engine, *(["--open"] if arguments.open else [])]
    command += ["--no-fsync"] if arguments.no_fsync else []
    log = state / LOG_FILE
    with open(log, "ab") as output:
        begin = output.tell()
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + _STARTING_SECONDS
    while time.monotonic() < deadline:
        address = read_address(state)
        if address is not None and address.pid == child.pid:
            target.of_state(state).status()
            console.step(f"region at {address.url} ({address.engine} engine), process {child.pid}")
            console.detail(f"state: {state}")
            console.detail(f"log: {log}")
            if arguments.open:
                _warn_open()
            if arguments.no_fsync:
                _warn_no_fsync()
            _result(address.url, state, address.engine, child.pid, as_json=arguments.json)
            return 0
        if child.poll() is not None:
            _tell_log(log, begin)
            raise MachineError("the region ended during its start", hint=f"Read {log}")
        time.sleep(0.02)
    child.terminate()
    raise TimeLimitError(
        f"the region did not answer within {_STARTING_SECONDS:.0f} s", hint=f"Read {log}"
    )


def _tell_log(log: Path, begin: int) -> None:
    with open(log, "rb") as file:
        file.seek(begin)
        for line in file.read().decode(errors="replace").splitlines()[-_LOG_LINES:]:
            console.detail(line)


# ── env ──


def _add_env(parser: argparse.ArgumentParser) -> None:
    target.add_arguments(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--shell", choices=sorted(_SHELLS), default="sh", help="syntax to print (default: sh)"
    )
    form.add_argument("--json", action="store_true", help='print {"NAME": "value", "UNSET": null}')


def _env(arguments: argparse.Namespace) -> int:
    from sagemaker_byoc.region import clients  # noqa: PLC0415 - of this action alone
    from sagemaker_byoc.region.core.account import Account  # noqa: PLC0415

    region = target.find(arguments)
    status = region.status()
    account = Account(id=status["account"], region=status["region"])
    values = clients.variables(status["url"], Path(status["state"]), account, region.keys)
    names = clients.unset(os.environ)
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


# ── down ──


def _add_down(parser: argparse.ArgumentParser) -> None:
    target.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def _down(arguments: argparse.Namespace) -> int:
    from sagemaker_byoc.region.core.state_folder import is_locked  # noqa: PLC0415 - POSIX only

    region = target.find(arguments)
    state = Path(region.status()["state"])
    region.post("down")
    deadline = time.monotonic() + _STOPPING_SECONDS
    while is_locked(state):
        if time.monotonic() > deadline:
            raise TimeLimitError(
                f"the region at {region.url} did not stop within {_STOPPING_SECONDS:.0f} s",
                hint=f"Read {state / 'region.log'}; kill its process",
            )
        time.sleep(0.05)
    console.step(f"the region at {region.url} has stopped; its state stays in {state}")
    if arguments.json:
        console.document({"url": region.url, "state": str(state)})
    return 0


# ── gc ──


def _add_gc(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be removed, and remove nothing"
    )
    parser.add_argument(
        "--remove",
        action="append",
        default=[],
        metavar="NAME",
        help="also remove this container, network or folder, whatever its region does",
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def _gc(arguments: argparse.Namespace) -> int:
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
        console.step(f"not inspected or not removed: {line}")
    console.step(f"{len(found)} {'found' if arguments.dry_run else 'removed'}")
    return 1 if problems else 0


_ACTIONS = {
    "up": Command("Start a region on this machine, and serve until Ctrl-C.", _add_up, _up),
    "env": Command(
        'Print what points AWS clients at the region: eval "$(byoc local env)".', _add_env, _env
    ),
    "down": Command(
        "Stop the region; endpoints and jobs get their grace period.", _add_down, _down
    ),
    "gc": Command(
        "Remove containers and temporary folders of regions that no longer run.", _add_gc, _gc
    ),
}
