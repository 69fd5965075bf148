"""The limit on open files: every connection needs one, and every large body another.

Standard library only.
"""

from __future__ import annotations

import resource

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.serving import log

WANTED = 65536
ENOUGH = 1024
"""Open files below which the number of connections is reported in the log."""
LEAST = 64
"""Open files below which nothing can be served: processes, libraries, links and the log need
them."""
HINT = "Start the container with --ulimit nofile=65536:65536"


def raise_open_files() -> None:
    """Raise the soft limit as far as the hard one allows; raise ContractError if it is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    found = open_files()
    if found < LEAST:
        raise ContractError(
            where="ulimit -n",
            what=f"is {found}, fewer open files than the server needs ({LEAST})",
            hint=HINT,
        )
    if found < ENOUGH:
        log.say(
            f"warning: ulimit -n is {found}: at most {connections()} connections at the same time. "
            f"{HINT}"
        )


def open_files() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return WANTED if soft == resource.RLIM_INFINITY else min(WANTED, soft)


def connections() -> int:
    """Return how many connections may be open; the rest is for bodies, workers and the log."""
    return max(1, (open_files() - LEAST // 2) // 2)


def bodies() -> int:
    """Return how many bodies may arrive at the same time, each possibly in a memory file."""
    return max(1, (open_files() - LEAST // 2) // 4)
