"""One serving container on this machine: tree → container → healthy → stopped."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sagemaker_byoc.contract import archives, folders, lifecycle
from sagemaker_byoc.contract import http as hosting
from sagemaker_byoc.contract.errors import MachineError, RequestError
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.variables import PROGRAM
from sagemaker_byoc.host import owners
from sagemaker_byoc.host.ports import is_free
from sagemaker_byoc.region.containers import specs
from sagemaker_byoc.region.containers.health import (
    LOG_SECONDS,
    ContainerLog,
    wait_until_healthy,
)
from sagemaker_byoc.region.containers.leftovers import machine_label
from sagemaker_byoc.region.containers.specs import PRIMARY, Image, check_name
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.engines.container import Container, ContainerSpec, Engine, start_all
from sagemaker_byoc.region.engines.copying import Copying, counted

DEFAULT_IMAGE = "byoc-serve"
_LOOK = 0.1
ENDPOINT_LABEL = "sagemaker-byoc.endpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRequest:
    """A user's request. `model` is a folder or an archive of one."""

    name: str
    work: Path
    """A folder that is created for the endpoint and removed with it."""
    model: Path
    port: int
    program: Path | None = None
    entry_point: str | None = None
    image: str = DEFAULT_IMAGE
    environment: Mapping[str, str]
    startup_timeout: float = hosting.STARTUP_TIMEOUT.value


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A running endpoint at `url`."""

    container: Container
    url: str
    log: ContainerLog

    def exit_code(self) -> int | None:
        return self.container.exit_code()

    def stop(self, hurried: threading.Event | None = None) -> int:
        """Send SIGTERM, wait up to 30 s, send SIGKILL; return the container's exit code.

        SIGKILL is sent at once when `hurried` is set.
        """
        with ThreadPoolExecutor(1) as stopper:
            stopping = stopper.submit(self.container.stop, lifecycle.SERVE_STOP_GRACE.value)
            while wait([stopping], _LOOK).not_done:
                if hurried is not None and hurried.is_set():
                    self.container.stop(0.0)
            stopping.result()
        self.log.join(LOG_SECONDS)
        return self.container.wait()


@contextmanager
def open_endpoint(
    request: EndpointRequest,
    engine: Engine,
    on_line: Callable[[str], None],
    given_up: threading.Event | None = None,
    prepared: ContainerSpec | None = None,
) -> Iterator[Endpoint]:
    """Yield a healthy endpoint, and remove it at the end; `on_line` receives its log.

    `prepared` is what `prepare` has returned, if the caller has called it already.

    Raise RequestError, MachineError, ArchiveError, or EndpointError with the log's last lines;
    EndpointError or GivenUpError soon after `given_up` is set.
    """
    given_up = given_up or threading.Event()
    try:
        spec = prepared or prepare(request)
        container = start_all(engine, {spec.name: spec}, given_up.is_set)[spec.name]
        log = ContainerLog(container, on_line)
        log.start()
        try:
            wait_until_healthy(container, request.port, request.startup_timeout, log, given_up)
            yield Endpoint(container, f"http://127.0.0.1:{request.port}", log)
        finally:
            container.close()
            log.join(LOG_SECONDS)
    finally:
        folders.remove(request.work)


def prepare(request: EndpointRequest, copying: Copying | None = None) -> ContainerSpec:
    """Write the container's tree into the folder `work`, which the caller removes.

    `copying` receives the bytes of the archive as it is unpacked.
    """
    check(request)
    require_free(request.port)
    return _lay_out(request, copying)


def require_free(port: int) -> None:
    """Raise MachineError if something listens on `port`."""
    if not is_free(port):
        raise MachineError(f"port {port} is taken", hint="Choose another with --port, or 0 for any")


def _lay_out(request: EndpointRequest, copying: Copying | None) -> ContainerSpec:
    model = request.model
    if not model.is_dir():
        archive, model = model, request.work / "model"
        title = f"unpack {archive.name}"
        with counted(copying, title, lambda: archive.stat().st_size) as on_bytes:
            archives.unpack(archive, model, on_bytes)
    entry = {} if request.entry_point is None else {PROGRAM: request.entry_point}
    common = specs.serving(
        name=f"byoc-{request.name}",
        hostname=PRIMARY,
        image=Image.without_region(request.image),
        tree=Tree(request.work / "ml"),
        model=model,
        port=request.port,
        variables={
            **specs.platform(Account.from_environ(os.environ)),
            **entry,
            **request.environment,
        },
        labels={**machine_label(), ENDPOINT_LABEL: request.name, owners.LABEL: owners.me()},
    )
    return replace(common, program=request.program)


def check(request: EndpointRequest) -> None:
    """Raise RequestError for what CreateModel or CreateEndpoint would refuse, or a missing file."""
    check_name("endpoint", request.name)
    if not request.model.exists():
        raise RequestError(
            f"there is no model {request.model}",
            hint="Name a folder, or the model.tar.gz that `byoc train` wrote",
        )
    if request.program is not None and not request.program.is_dir():
        raise RequestError(f"there is no program folder {request.program}", hint="Check the path")
