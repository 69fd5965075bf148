"""The `serve` command: settings, sockets, supervisor; the only place that decides the exit code."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import traceback

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.lifecycle import SERVE_ARGUMENT, ExitCode
from sagemaker_byoc.serving import handler_file, log, processes
from sagemaker_byoc.serving.settings import Settings
from sagemaker_byoc.serving.supervisor import Supervisor

BACKLOG = 2048


def main() -> int:
    """Serve until SIGTERM; the exit code of the container."""
    arguments = sys.argv[1:]
    if arguments != [SERVE_ARGUMENT.value]:
        log.say(f"arguments: are {arguments}. Start the container with: serve")
        return ExitCode.BAD_INPUT
    try:
        return _serve()
    except ContractError as error:
        log.say(str(error))
        return ExitCode.BAD_INPUT
    except Exception:  # noqa: BLE001 - the outermost boundary: whatever it is, it is our defect
        log.say(f"internal error\n{traceback.format_exc()}")
        return ExitCode.INTERNAL


def _serve() -> int:
    settings = Settings.from_environ(os.environ)
    with _http_socket(settings) as http, _link_socket() as link:
        log.say(banner(settings, http.getsockname()[1]))
        processes.adopt_orphans()
        return Supervisor(settings, http=http, link=link).run()


def _http_socket(settings: Settings) -> socket.socket:
    """Bound here, so that connections wait in its backlog while the front starts or restarts."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise ContractError(
            where=f"{settings.host}:{settings.port}",
            what=f"can't be listened on ({error.strerror})",
            cure="Free the port, or choose another with SAGEMAKER_BIND_TO_PORT",
        ) from error
    listener.listen(BACKLOG)
    return listener


def _link_socket() -> socket.socket:
    """In the abstract namespace: no disk, no clean-up."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"\0byoc-{secrets.token_hex(16)}")
    listener.listen(128)
    return listener


def banner(settings: Settings, port: int) -> str:
    limit = "unbounded" if settings.payload is None else f"{settings.payload / 2**20:g} MiB"
    found = handler_file.find(settings)
    parts = (
        f"serve on {settings.host}:{port}",
        f"{settings.cpus} cpus",
        f"{len(settings.gpus)} gpus",
        f"{settings.slots} model worker(s) of {settings.threads_per_slot} thread(s)",
        f"queue {settings.queue}",
        f"payload {limit}",
        f"deadline {settings.deadline:g} s",
        f"handlers {found.chosen or 'default'}",
    )
    return ", ".join(parts)
