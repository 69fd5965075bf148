"""`byoc serve`: one endpoint on this machine, until it is interrupted."""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Self

from sagemaker_byoc.cli import arguments as types
from sagemaker_byoc.cli import console, options, settings
from sagemaker_byoc.contract import http
from sagemaker_byoc.contract.lifecycle import SIGNAL_BASE
from sagemaker_byoc.local.engines.container import Engine
from sagemaker_byoc.local.hosting.endpoint import (
    DEFAULT_IMAGE,
    EndpointRequest,
    free_port,
    open_endpoint,
)

HELP = "Serve a model as SageMaker would, on this machine."
_WATCH_SECONDS = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "program",
        type=Path,
        nargs="?",
        metavar="PROGRAM",
        help="the folder of inference.py, or its file (default: what [tool.byoc.serve] of "
        "./pyproject.toml says, or none, where the model needs none)",
    )
    parser.add_argument("--model", type=Path, required=True, metavar="DIR|model.tar.gz")
    parser.add_argument(
        "--port",
        type=types.port,
        default=http.PORT.value,
        help="of 127.0.0.1 (default: 8080; 0: any)",
    )
    parser.add_argument(
        "--startup-timeout",
        type=types.seconds(3600),
        default=http.STARTUP_TIMEOUT.value,
        metavar="SECONDS",
        help=f"until /ping must be 200 (default: {http.STARTUP_TIMEOUT.value})",
    )
    options.add_engine(parser, DEFAULT_IMAGE)
    parser.add_argument("--json", action="store_true", help="its address as one object")


def run(arguments: argparse.Namespace) -> int:
    project = settings.read_for("serve", arguments.program)
    program = None if project.program is None else options.parse_program(project.program)
    port = arguments.port or free_port()
    engine = options.make_engine(arguments.engine)
    with tempfile.TemporaryDirectory(prefix="byoc-") as folder:
        request = EndpointRequest(
            name=options.unique_name(program.name if program else "model"),
            work=Path(folder, "ml"),
            model=arguments.model.resolve(),
            port=port,
            program=None if program is None else program.folder.resolve(),
            entry_point=None if program is None else program.entry_point,
            image=options.image_of(arguments, DEFAULT_IMAGE),
            environment=options.parse_pairs("--env", arguments.env),
            startup_timeout=arguments.startup_timeout,
        )
        console.step(f"endpoint {request.name} ({engine.name})")
        with _Interruption() as interruption:
            return _serve(request, engine, interruption, as_json=arguments.json)


class _Interruption:
    """Ctrl-C and SIGTERM: before the endpoint is healthy they end everything, then they ask."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.signal = 0
        self.healthy = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number
        self.asked.set()
        if not self.healthy:
            raise KeyboardInterrupt


def _serve(
    request: EndpointRequest, engine: Engine, interruption: _Interruption, *, as_json: bool
) -> int:
    """Until a signal, or until the container ends by itself, which is a failure."""
    with open_endpoint(request, engine, lambda line: console.log_line("serve", line)) as endpoint:
        interruption.healthy = True
        console.step(f"{endpoint.url} is healthy; Ctrl-C ends it")
        if as_json:
            console.document({"name": request.name, "url": endpoint.url, "pid": os.getpid()})
        else:
            console.result(endpoint.url)
        while not interruption.asked.wait(timeout=_WATCH_SECONDS):
            code = endpoint.exit_code()
            if code is not None:
                console.error(f"the container ended with exit code {code}", "Read its log above")
                return 1
        code = endpoint.stop()
    console.step(f"stopped, exit code {code}")
    if code != 0:
        return 1
    return SIGNAL_BASE + signal.SIGINT if interruption.signal == signal.SIGINT else 0
