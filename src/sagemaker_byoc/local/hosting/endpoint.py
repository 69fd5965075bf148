"""One serving container on this machine: tree → container → healthy → stopped."""

from __future__ import annotations

import http.client
import shutil
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract import archives, environment, lifecycle
from sagemaker_byoc.contract import http as hosting
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.local.engines.container import Container, ContainerSpec, Engine
from sagemaker_byoc.local.errors import LocalError, MachineError, RequestError
from sagemaker_byoc.local.names import check_name

DEFAULT_IMAGE = "byoc-serve"
_LAST_LINES = 20
_LOG_SECONDS = 10.0
"""A log ends with its container; this bounds the wait for it."""
_POLL = 0.1


class EndpointError(LocalError):
    """The container ended, or did not become healthy in time; `what` says which, with its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRequest:
    """What a user asks for. `model` is a folder or an archive of one."""

    name: str
    work: Path
    """A folder that is made for the endpoint and removed with it."""
    model: Path
    port: int
    program: Path | None = None
    entry_point: str | None = None
    image: str = DEFAULT_IMAGE
    environment: Mapping[str, str]
    startup_timeout: float = hosting.STARTUP_TIMEOUT.value


class ContainerLog(threading.Thread):
    """Hands on a container's log while it runs, and keeps its end."""

    def __init__(self, container: Container, on_line: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self._container = container
        self._on_line = on_line
        self._last: deque[str] = deque(maxlen=_LAST_LINES)

    def run(self) -> None:
        for line in self._container.lines():
            self._last.append(line)
            self._on_line(line)

    def end(self) -> str:
        """The last lines, indented; of a container that has ended, up to its very last."""
        if self._container.exit_code() is not None:
            self.join(_LOG_SECONDS)
        return "".join(f"\n  {line}" for line in self._last) or " (it is empty)"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A running endpoint at `url`."""

    container: Container
    url: str
    log: ContainerLog

    def exit_code(self) -> int | None:
        return self.container.exit_code()

    def stop(self) -> int:
        """SIGTERM, up to 30 s for what is in flight, SIGKILL; the container's exit code."""
        self.container.stop(lifecycle.SERVE_STOP_GRACE.value)
        self.log.join(_LOG_SECONDS)
        return self.container.wait()


@contextmanager
def open_endpoint(
    request: EndpointRequest, engine: Engine, on_line: Callable[[str], None]
) -> Iterator[Endpoint]:
    """A healthy endpoint, ended and removed at the end; `on_line` gets its log.

    Raises RequestError, MachineError, ArchiveError, or EndpointError with the log's last lines.
    """
    check(request)
    require_free(request.port)
    try:
        container = engine.start(_lay_out(request, Tree(request.work)))
        log = ContainerLog(container, on_line)
        log.start()
        try:
            wait_until_healthy(container, request.port, request.startup_timeout, log)
            yield Endpoint(container, f"http://127.0.0.1:{request.port}", log)
        finally:
            container.close()
            log.join(_LOG_SECONDS)
    finally:
        shutil.rmtree(request.work, ignore_errors=True)


def require_free(port: int) -> None:
    """Raise MachineError where something listens on `port` already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise MachineError(
                f"port {port} is taken", cure="Choose another with --port, or 0 for any"
            ) from error


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_healthy(container: Container, port: int, timeout: float, log: ContainerLog) -> None:
    """Ping as SageMaker does until 200; raise EndpointError as soon as that can't come any more."""
    deadline = time.monotonic() + timeout
    answer = "no answer"
    while time.monotonic() < deadline:
        code = container.exit_code()
        if code is not None:
            raise EndpointError(
                f"the serving container ended with exit code {code}; its log ends:{log.end()}",
                cure="Mend what its log names, then serve again",
            )
        status, answer = ping(port)
        if status == http.client.OK:
            return
        time.sleep(_POLL)
    raise EndpointError(
        f"/ping was not 200 within {timeout:.0f} s ({answer}); its log ends:{log.end()}",
        cure="Load the model faster, or give more time with --startup-timeout",
    )


def ping(port: int) -> tuple[int, str]:
    """Status and text of one GET /ping; status 0 where nothing answered within SageMaker's 2 s."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=hosting.PING_TIMEOUT.value)
    try:
        connection.request("GET", hosting.PING.value)
        response = connection.getresponse()
        return response.status, f"{response.status} {response.read(500).decode(errors='replace')}"
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error) or type(error).__name__
    finally:
        connection.close()


def _lay_out(request: EndpointRequest, tree: Tree) -> ContainerSpec:
    tree.model.mkdir(parents=True)
    inputs = {}
    if request.model.is_dir():
        inputs["model"] = request.model
    else:
        archives.unpack(request.model, tree.model)
    variables = dict(request.environment)
    if request.entry_point is not None:
        variables[environment.PROGRAM] = request.entry_point
    return ContainerSpec(
        name=f"byoc-{request.name}",
        argument=lifecycle.SERVE_ARGUMENT.value,
        tree=tree,
        environment=variables,
        image=request.image,
        program=request.program,
        inputs=inputs,
        port=request.port,
        hostname=request.name,
    )


def check(request: EndpointRequest) -> None:
    """Refuse what CreateModel or CreateEndpoint would refuse, and what is not there."""
    check_name("endpoint", request.name)
    if not request.model.exists():
        raise RequestError(
            f"there is no model {request.model}",
            cure="Name a folder, or the model.tar.gz that `byoc train` wrote",
        )
    if request.program is not None and not request.program.is_dir():
        raise RequestError(f"there is no program folder {request.program}", cure="Check the path")
