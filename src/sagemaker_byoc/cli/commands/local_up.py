"""`byoc local up`: a region in this process until a signal, or in one of its own."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sagemaker_byoc.cli import programs, target
from sagemaker_byoc.cli.terminal import arguments as types
from sagemaker_byoc.cli.terminal import console, signals
from sagemaker_byoc.contract.errors import MachineError, TimeLimitError

if TYPE_CHECKING:
    from sagemaker_byoc.region.region import Region

HELP = "Start a region on this machine, and serve until Ctrl-C."
DEFAULT_PORT = 8321
_STARTING_SECONDS = 90.0
_LOG_LINES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port",
        type=types.port,
        default=DEFAULT_PORT,
        help=f"of 127.0.0.1 (default: {DEFAULT_PORT}; 0: any)",
    )
    target.add_state(parser)
    parser.add_argument(
        "--engine",
        choices=programs.ENGINES,
        default="process",
        help="what runs the containers: plain processes of this machine (default), or Docker",
    )
    parser.add_argument(
        "--open",
        action="store_true",
        help="take requests with any signature or none, from every user of this machine",
    )
    parser.add_argument("--json", action="store_true", help="its address as one object")
    parser.add_argument(
        "--detach", action="store_true", help="leave it running, and return once it answers"
    )


def run(arguments: argparse.Namespace) -> int:
    with target.explained_imports():
        from sagemaker_byoc.region.region import Region  # noqa: PLC0415 - an extra of the package
    state = target.state_folder(arguments)
    if arguments.detach:
        return _detach(arguments, state)
    received, asked = signals.received(), threading.Event()
    with received.asking(asked.set):
        region = Region(state, port=arguments.port, engine=arguments.engine, is_open=arguments.open)
        region.start()
        try:
            _announce(region, as_json=arguments.json)
            while not asked.is_set() and not region.ended.wait(timeout=0.2):
                pass
        finally:
            console.step("ending: endpoints and jobs get their grace; Ctrl-C again leaves at once")
            region.close()
    return 0 if received.number in {0, signal.SIGTERM} else received.exit_code


def _announce(region: Region, *, as_json: bool) -> None:
    console.step(f"region {region.account.region} at {region.url} ({region.engine} engine)")
    console.detail(f"state: {region.state}")
    console.detail('in another terminal: eval "$(byoc local env)"')
    if region.is_open:
        _warn_open()
    _result(region.url, region.state, region.engine, os.getpid(), as_json=as_json)


def _warn_open() -> None:
    console.detail("open: no key is checked, so every user and container here may run programs")


def _result(url: str, state: Path, engine: str, pid: int, *, as_json: bool) -> None:
    if as_json:
        console.document({"url": url, "state": str(state), "engine": engine, "pid": pid})
    else:
        console.result(url)


def _detach(arguments: argparse.Namespace, state: Path) -> int:
    from sagemaker_byoc.region.core.state_folder import LOG_FILE, make_private, read_address  # noqa: PLC0415

    if (other := read_address(state)) is not None:
        raise MachineError(
            f"{state} belongs to the region at {other.url}",
            hint="Use that one, or end it with `byoc local down`",
        )
    make_private(state)
    command = [sys.executable, "-m", "sagemaker_byoc.cli", "local", "up"]
    command += ["--state", str(state), "--port", str(arguments.port)]
    command += ["--engine", arguments.engine, *(["--open"] if arguments.open else [])]
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
            _result(address.url, state, address.engine, child.pid, as_json=arguments.json)
            return 0
        if child.poll() is not None:
            _tell_log(log, begin)
            raise MachineError("the region ended while it started", hint=f"Read {log}")
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
