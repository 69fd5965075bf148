"""A SageMaker region in this process: `with Region() as region: region.client("sagemaker")`."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

from sagemaker_byoc.contract.errors import MachineError
from sagemaker_byoc.region import clients
from sagemaker_byoc.region.composition import CLOSING_SECONDS, Composition, compose
from sagemaker_byoc.region.containers.access import ContainerAccess
from sagemaker_byoc.region.core.account import CALLER, Account, Credentials, Keys, make_keys
from sagemaker_byoc.region.core.state_folder import LOG_FILE, Address, StateFolder
from sagemaker_byoc.region.core.threads import loop_factory
from sagemaker_byoc.region.engines import docker, process
from sagemaker_byoc.region.engines.container import Engine
from sagemaker_byoc.region.services.s3.store.disk import Disk
from sagemaker_byoc.region.services.sagemaker.training_jobs.training_jobs import TrainingJobs
from sagemaker_byoc.region.wire.admission import Admission
from sagemaker_byoc.region.wire.http import Request, Response, json_response
from sagemaker_byoc.region.wire.operations import AwsError
from sagemaker_byoc.region.wire.routing import OWN_PREFIX, Router
from sagemaker_byoc.region.wire.server import Application, RegionServer, listen, make_server

LOG = logging.getLogger(__name__)

EngineName: TypeAlias = Literal["process", "docker"]

STARTING_SECONDS = 60.0
_LISTENING_SECONDS = 10.0
_HEADER = "x-byoc"
"""Required by control requests: a web page can't send it, because browsers ask the server first."""
_THREADS = 256
"""Most threads, made as they are needed: each container that is waited for has some."""


class Region:
    """A region that serves on one port of 127.0.0.1, in a thread, between `start` and `close`.

    The folder `state` is kept for the next region; without it, a temporary one is used. `port` 0 is
    any free one. An open region accepts requests with any signature or none, from every user of
    this machine. Without `fsync`, a power cut may lose or tear objects that were stored; the end of
    the process does not. Raise MachineError if the port or the folder is taken.
    """

    def __init__(  # noqa: PLR0913 - all but the first are keywords
        self,
        state: Path | str | None = None,
        *,
        port: int = 0,
        engine: EngineName = "process",
        account: Account | None = None,
        is_open: bool = False,
        fsync: bool = True,
    ) -> None:
        self.account = account or Account()
        self.is_open = is_open
        self.fsync = fsync
        self.engine = engine
        self._state_path = None if state is None else Path(state)
        self._port = port
        self._running: _Running | None = None
        self.ended = threading.Event()
        """Set when the region no longer answers, for any reason."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def state(self) -> Path:
        return self._require().folder.path

    @property
    def url(self) -> str:
        return self._require().url

    @property
    def environ(self) -> dict[str, str]:
        """Variables for the clients of this region, as `byoc local env` prints them."""
        return clients.variables(self.url, self.state, self.account, self.keys)

    @property
    def keys(self) -> Keys:
        """The owner's keys, valid as long as the state folder exists."""
        return self._require().keys

    def client(self, service: str) -> Any:
        """Return a botocore client, as boto3.client(service) would."""
        return clients.make_client(service, self.url, self.keys, region=self.account.region)

    def start(self) -> None:
        if self._running is not None:
            return
        folder = StateFolder(self._state_path)
        try:
            listener = _listen(self._port)
            try:
                self._running = _Running(self, folder, listener)
            except BaseException:
                listener.close()
                raise
        except BaseException:
            folder.close()
            raise

    def close(self) -> None:
        """End endpoints and jobs with their grace periods, then the port. Idempotent."""
        running, self._running = self._running, None
        if running is not None:
            running.close()

    def _require(self) -> _Running:
        if self._running is None:
            raise RuntimeError("the region has not been started, or it was closed")
        return self._running


class _Running:
    """One life of a region: a thread, an event loop, a port, a folder."""

    def __init__(self, region: Region, folder: StateFolder, listener: socket.socket) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._region = region
        self._listener = listener
        self.keys = make_keys(folder.path)
        self._credentials = Credentials(self.keys)
        self._access_hosts: set[str] = set()
        self._ready: Future[None] = Future()
        self._log = _open_log(folder.path)
        self._server: RegionServer | None = None
        self._thread = threading.Thread(target=self._run, name="byoc-region", daemon=True)
        self._thread.start()
        try:
            self._ready.result(timeout=STARTING_SECONDS)
        except BaseException:
            self._thread.join(timeout=1)
            self._end()
            raise

    def close(self) -> None:
        self.ask_to_end()
        self._thread.join(timeout=CLOSING_SECONDS + 30)
        self._end()

    def ask_to_end(self) -> None:
        """Ask the region to end, and return at once; `Region.ended` is set when it has ended."""
        if self._server is not None:
            self._server.should_exit = True

    def status(self) -> dict[str, object]:
        return {
            "url": self.url,
            "state": str(self.folder.path),
            "engine": self._region.engine,
            "pid": os.getpid(),
            "account": self._region.account.id,
            "region": self._region.account.region,
            "open": self._region.is_open,
            "fsync": self._region.fsync,
        }

    @property
    def server(self) -> RegionServer:
        assert self._server is not None
        return self._server

    def _end(self) -> None:
        """Release the folder, the port and the log. Idempotent."""
        self.folder.close()
        self._listener.close()
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(self._log)
        self._log.close()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - raised in the thread that started this one
            if not self._ready.done():
                self._ready.set_exception(error)
        finally:
            # Here, because a region that is ended from outside holds its folder until then.
            self._end()
            self._region.ended.set()

    async def _serve(self) -> None:
        pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="byoc")
        asyncio.get_running_loop().set_default_executor(pool)
        composition = self._compose()
        known = None if self._region.is_open else self._credentials
        admission = Admission(known, self._access_hosts)
        application = Application(Router(composition.services, admission))
        self._server = make_server(application, composition.release)
        try:
            composition.start()
            self.folder.announce(Address(url=self.url, pid=os.getpid(), engine=self._region.engine))
            # The socket listens already: a client that connects now waits.
            self._ready.set_result(None)
            await self._server.serve(sockets=[self._listener])
        finally:
            await composition.close()

    def _compose(self) -> Composition:
        path, account = self.folder.path, self._region.account
        clients.write_sdk_config(path, account)
        clients.write_sts_rules(path, self.url)
        engine = _make_engine(self._region.engine, path)
        port = int(self._listener.getsockname()[1])
        access = ContainerAccess(
            engine=engine,
            account=account,
            port=port,
            listeners=_Listeners(self, asyncio.get_running_loop(), port),
            credentials=self._credentials,
            is_open=self._region.is_open,
            data_path=clients.data_path(path, {}),
            hosts=self._access_hosts,
        )
        if not self._region.fsync:
            LOG.warning("no fsync: a power cut may lose or tear objects that were stored")
        disk = Disk(waits=self._region.fsync)
        return compose(path, access, control=self._control, disk=disk)

    def _control(self, jobs: TrainingJobs) -> Control:
        return Control(self.status, jobs, self.ask_to_end)


class Control:
    """The Handler of `/_byoc/…`: requests of the `byoc` command for which AWS has no operation.

    Only the region's owner may ask; the keys of a container are for AWS's services. `status`
    returns the answer of GET /_byoc/status.
    """

    def __init__(
        self,
        status: Callable[[], dict[str, object]],
        jobs: TrainingJobs,
        end: Callable[[], None],
    ) -> None:
        self._status = status
        self._jobs = jobs
        self._end = end

    async def __call__(self, request: Request) -> Response:
        if _HEADER not in request.headers:
            raise AwsError("AccessDenied", f"The header {_HEADER} is missing", status=403)
        caller = CALLER.get()
        if caller is not None and not caller.is_owner:
            raise AwsError("AccessDenied", f"{caller.arn} may not control the region", status=403)
        command, _, name = request.path.removeprefix(OWN_PREFIX).partition("/")
        match request.method, command:
            case "GET", "status":
                return json_response(self._status())
            case "POST", "down":
                self._end()
                return json_response({})
            case "POST", "interrupt" if name:
                self._jobs.interrupt(name)
                return json_response({})
        raise AwsError("NotFound", f"{request.method} {request.path} does not exist", status=404)


class _Listeners:
    """access.Listeners for threads, on the event loop of the region."""

    def __init__(self, running: _Running, loop: asyncio.AbstractEventLoop, port: int) -> None:
        self._running = running
        self._loop = loop
        self._port = port
        self._servers: dict[str, asyncio.Server] = {}

    def open(self, address: str) -> int:
        try:
            listener = listen(self._port, address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            listener = listen(0, address)
        opening = self._running.server.open(listener)
        call = asyncio.run_coroutine_threadsafe(opening, self._loop)
        self._servers[address] = call.result(timeout=_LISTENING_SECONDS)
        return int(listener.getsockname()[1])

    def close(self, address: str) -> None:
        server = self._servers.pop(address, None)
        if server is not None:
            with suppress(RuntimeError):  # the loop has ended, and closed it
                self._loop.call_soon_threadsafe(self._running.server.leave, server)


_LOGGERS = ("sagemaker_byoc", "uvicorn")


def _open_log(state: Path) -> logging.Handler:
    handler = logging.FileHandler(state / LOG_FILE, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(handler)
    return handler


def _listen(port: int) -> socket.socket:
    try:
        return listen(port)
    except OSError as error:
        raise MachineError(
            f"port {port} of 127.0.0.1 can't be used ({error.strerror})",
            hint="Name another with --port, or 0 for any; `byoc local down` ends an old region",
        ) from error


def _make_engine(name: EngineName, state: Path) -> Engine:
    if name == "docker":
        docker.run("version")  # raise MachineError now, not at the first job
        return docker.DockerEngine()
    scratch = state / ".scratch"
    scratch.mkdir(exist_ok=True)
    return process.make_engine(scratch)
