"""Waiting for the other hosts' names, all at once and with one deadline.

SageMaker starts the hosts of a job one after another: a name may not resolve at first.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic, sleep

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.training.supervisor.settings import DNS_SECONDS

DEFAULT_SECONDS = 300.0
POLL_SECONDS = 0.05
FIRST_RETRY = 0.2
LONGEST_RETRY = 5.0
LONGEST_LOOKUP = 1.0

Resolve = Callable[[str], str]


def resolve(host: str) -> str:
    """The first address of `host`; raises OSError."""
    address: str = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]  # type: ignore[assignment]
    return address


def wait_for_hosts(
    hosts: Sequence[str],
    seconds: float,
    *,
    is_stopped: Callable[[], bool],
    resolve: Resolve = resolve,
) -> dict[str, str]:
    """Each host's address; fewer if we were stopped. ContractError names who is missing."""
    found: dict[str, str] = {}
    deadline = monotonic() + seconds
    for host in hosts:
        # Daemons: the resolver itself may block for long, and nobody waits for it then.
        arguments = (host, found, deadline, resolve)
        threading.Thread(target=_keep_trying, args=arguments, daemon=True).start()
    while len(found) < len(hosts) and monotonic() < deadline and not is_stopped():
        sleep(POLL_SECONDS if len(hosts) > len(found) else 0)
    missing = [host for host in hosts if host not in found]
    if missing and not is_stopped():
        raise ContractError(
            where=f"host {', '.join(missing)}",
            what=f"did not resolve to an address within {seconds:g} s",
            hint="Look into that host's log: its container may not have started. "
            f"{DNS_SECONDS} sets the time",
        )
    return dict(found)


def _keep_trying(host: str, found: dict[str, str], deadline: float, resolve: Resolve) -> None:
    """Ask again while an earlier lookup still blocks: a resolver may take 10 s to answer for a name
    that is not there yet, and a host whose work is short may have left by then."""
    pause = FIRST_RETRY
    while host not in found and monotonic() < deadline:
        lookup = threading.Thread(target=_try, args=(host, found, resolve), daemon=True)
        lookup.start()
        lookup.join(LONGEST_LOOKUP)
        if host not in found:
            sleep(min(pause, max(0.0, deadline - monotonic())))
            pause = min(2 * pause, LONGEST_RETRY)


def _try(host: str, found: dict[str, str], resolve: Resolve) -> None:
    with suppress(OSError):
        found[host] = resolve(host)
