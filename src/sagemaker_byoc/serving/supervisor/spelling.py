"""Variables that have no effect although somebody meant them to: misspelt, or another server's."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from sagemaker_byoc.contract.facts import Fact
from sagemaker_byoc.contract.hosting import environment

PREFIXES = ("BYOC_", "SAGEMAKER_", "MODEL_SERVER_")
ELSEWHERE = frozenset(
    {
        *("BYOC_INSTALLER", "BYOC_PROGRAM_DIR", "SAGEMAKER_BASE_DIR", "SAGEMAKER_BATCH_STRATEGY"),
        *("SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", "SAGEMAKER_CONTAINER_LOG_LEVEL"),
        *("SAGEMAKER_SAFE_PORT_RANGE", "SAGEMAKER_REGION"),
        *("SAGEMAKER_MODEL_SERVER_VMARGS", "SAGEMAKER_STARTUP_TIMEOUT", "SAGEMAKER_REQUIREMENTS"),
    }
)
"""Known, and not read by the server itself."""
LIKENESS = 0.85

OTHERS = ("MMS_", "TS_", "SAGEMAKER_TS_", "SAGEMAKER_", "GUNICORN_")
"""Prefixes of variables that other servers of SageMaker's containers read."""
OURS = {
    "MAX_REQUEST_SIZE": f"{environment.MAX_PAYLOAD_IN_MB.value} sets the largest request",
    "MAX_RESPONSE_SIZE": "replies have no limit",
    "RESPONSE_TIMEOUT": f"{environment.TIMEOUT.value} sets the deadline, in seconds",
    "UNREGISTER_MODEL_TIMEOUT": "unloading waits for running requests, up to 20 seconds",
    "TIMEOUT": f"{environment.TIMEOUT.value} sets the deadline, in seconds",
    "MODEL_WORKERS": f"{environment.WORKERS.value} sets the number of workers",
    "WORKERS_PER_MODEL": f"{environment.WORKERS.value} sets the number of workers",
    "MIN_WORKERS": f"{environment.WORKERS.value} sets the number of workers",
    "MAX_WORKERS": f"{environment.WORKERS.value} sets the number of workers",
    "WORKERS": f"{environment.WORKERS.value} sets the number of workers",
    "JOB_QUEUE_SIZE": f"{environment.QUEUE.value} sets the length of the queue",
    "BATCH_SIZE": f"{environment.BATCH_SIZE.value} sets the size of batches",
    "MAX_BATCH_DELAY": "a batch never waits for more requests",
    "CMD_ARGS": "gunicorn's settings are fixed",
}
"""Text of the warning by the end of the variable's name; the longest end counts."""


def without_effect(environ: Mapping[str, str]) -> list[str]:
    """Return a line for each set variable of another server that sets a limit or a number."""
    lines = []
    for name in sorted(environ):
        ends = [end for end in OURS if name.endswith(f"_{end}")]
        if ends and name.startswith(OTHERS) and environ[name] and name not in _known():
            lines.append(f"{name} has no effect here: {OURS[max(ends, key=len)]}")
    return lines


def _known() -> frozenset[str]:
    """Return the names of all variables that have a meaning."""
    return ELSEWHERE | {
        fact.value
        for fact in vars(environment).values()
        if isinstance(fact, Fact) and fact.unit == "variable"
    }


def misspelt(names: Iterable[str]) -> dict[str, str]:
    """Name → what was probably meant."""
    known = _known()
    found = {}
    for name in sorted(names):
        if name.upper().startswith(PREFIXES) and name not in known:
            like = difflib.get_close_matches(name.upper(), known, 1, LIKENESS)
            if like:
                found[name] = like[0]
    return found
