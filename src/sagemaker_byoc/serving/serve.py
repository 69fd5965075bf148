"""The `serve` command: settings, sockets, supervisor; the only place that decides the exit code."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import traceback
from dataclasses import replace
from importlib.util import find_spec

from sagemaker_byoc.contract import http, variables
from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.gpu import check_gpus
from sagemaker_byoc.contract.lifecycle import SERVE_ARGUMENT, ExitCode, exit_code_of
from sagemaker_byoc.serving import log, open_files
from sagemaker_byoc.serving.capture.options import prepare, warnings
from sagemaker_byoc.serving.reader import Reader, without_effect
from sagemaker_byoc.serving.settings import Settings, find_handlers
from sagemaker_byoc.serving.supervisor import processes
from sagemaker_byoc.serving.supervisor.slots import worker_environ
from sagemaker_byoc.serving.supervisor.supervisor import Supervisor

BACKLOG = 2048
CHECK = "--check"
CHECKER = "sagemaker_byoc.serving.worker.check"


def main() -> int:
    """Serve until SIGTERM; return the container's exit code."""
    arguments = sys.argv[1:]
    is_check = arguments[:2] == [SERVE_ARGUMENT.value, CHECK]
    if not is_check and arguments != [SERVE_ARGUMENT.value]:
        log.say(
            f"arguments: are {arguments}. Start the container with: serve, or with: "
            f"serve {CHECK} [SAMPLE …]"
        )
        return ExitCode.BAD_INPUT
    try:
        return _check(arguments[2:]) if is_check else _serve()
    except ContractError as error:
        log.say(str(error))
        return ExitCode.BAD_INPUT
    except Exception:  # noqa: BLE001 - the outermost boundary: whatever it is, it is our defect
        log.say(f"internal error\n{traceback.format_exc()}")
        return ExitCode.INTERNAL


def _require_packages() -> None:
    """Raise ContractError if a package is missing without which the front or a worker would end."""
    lacking = [name for name in http.PACKAGES if find_spec(name) is None]
    if not lacking:
        return
    # Imported only if something is missing: importlib.metadata is slow.
    from sagemaker_byoc.contract.installation import add_extra  # noqa: PLC0415

    are = "packages" if len(lacking) > 1 else "package"
    raise ContractError(
        where="serve",
        what=f"the server needs the Python {are} {', '.join(lacking)}",
        hint=f"Install what it needs: {add_extra('serve')}",
    )


def _serve() -> int:
    _require_packages()
    settings = Settings.from_environ(os.environ)
    open_files.raise_open_files()
    if settings.capture is not None:
        prepare(settings.capture)
    with _http_socket(settings) as http, _link_socket() as link:
        log.say(banner(settings, http.getsockname()[1]))
        misspelt = variables.warnings(os.environ, variables.SERVE)
        for line in (*misspelt, *without_effect(os.environ)):
            log.say(f"warning: {line}")
        if settings.capture is not None:
            for line in warnings(settings.capture, settings.default_accept):
                log.say(line)
        _check_gpus()
        if not processes.adopt_orphans():  # nor forked workers
            settings = replace(settings, worker_start="spawn")
        return Supervisor(settings, http=http, link=link).run()


def _check_gpus() -> None:
    """Log why GPUs stay unused; raise ContractError if their driver is too old for torch."""
    warning = check_gpus(os.environ, allowed=Reader(os.environ).flag(variables.ALLOW_CPU))
    if warning:
        log.say(warning)


def _check(samples: list[str]) -> int:
    """Run the check in a worker's environment, without a server."""
    settings = Settings.from_environ(os.environ)
    _check_gpus()
    command = [sys.executable, "-P", "-u", "-m", CHECKER, settings.to_json(), *samples]
    return exit_code_of(
        subprocess.run(command, env=worker_environ(settings, 0), check=False).returncode
    )


def _http_socket(settings: Settings) -> socket.socket:
    """Return the listening socket. It is bound here so that connections wait in its backlog while
    the front starts or restarts."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise ContractError(
            where=f"{settings.host}:{settings.port}",
            what=f"can't be listened on ({error.strerror})",
            hint=f"Free the port, or choose another with {variables.BIND_TO_PORT}",
        ) from error
    listener.listen(BACKLOG)
    return listener


def _link_socket() -> socket.socket:
    """Return the link's socket, in the abstract namespace: it needs no disk and no clean-up."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"\0byoc-{secrets.token_hex(16)}")
    listener.listen(128)
    return listener


def banner(settings: Settings, port: int) -> str:
    limit = "unbounded" if settings.payload is None else f"{settings.payload / 2**20:g} MiB"
    if settings.is_multi_model:
        workers = f"many models, one worker each of {settings.threads} thread(s)"
    elif settings.is_automatic:  # the loaded model decides
        workers = f"up to {settings.slots} model workers"
    else:
        workers = f"{settings.slots} model worker(s) of {settings.threads} thread(s)"
    parts = (
        f"serve on {settings.host}:{port}",
        f"{settings.cpus} cpus",
        f"{len(settings.gpus)} gpus",
        workers,
        f"queue {settings.queue}",
        f"payload {limit}",
        f"deadline {settings.deadline:g} s",
    )
    more = []
    if not settings.is_multi_model:
        more.append(f"handlers {find_handlers(settings).chosen or 'default'}")
    if settings.capture is not None:
        more.append(f"capture {settings.capture.percentage:g} % to {settings.capture.folder}")
    return ", ".join([*parts, *more])
