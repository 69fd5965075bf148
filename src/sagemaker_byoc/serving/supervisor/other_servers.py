"""Variables of other servers of SageMaker's containers, which have no effect here."""

from __future__ import annotations

from collections.abc import Mapping

from sagemaker_byoc.contract import variables

OTHERS = ("MMS_", "TS_", "SAGEMAKER_TS_", "SAGEMAKER_", "GUNICORN_")
"""Prefixes of variables that other servers of SageMaker's containers read."""
OURS = {
    "MAX_REQUEST_SIZE": f"{variables.MAX_PAYLOAD_IN_MB} sets the largest request",
    "MAX_RESPONSE_SIZE": "replies have no limit",
    "RESPONSE_TIMEOUT": f"{variables.TIMEOUT} sets the deadline, in seconds",
    "UNREGISTER_MODEL_TIMEOUT": "unloading waits for running requests, up to 20 seconds",
    "TIMEOUT": f"{variables.TIMEOUT} sets the deadline, in seconds",
    "MODEL_WORKERS": f"{variables.WORKERS} sets the number of workers",
    "WORKERS_PER_MODEL": f"{variables.WORKERS} sets the number of workers",
    "MIN_WORKERS": f"{variables.WORKERS} sets the number of workers",
    "MAX_WORKERS": f"{variables.WORKERS} sets the number of workers",
    "WORKERS": f"{variables.WORKERS} sets the number of workers",
    "JOB_QUEUE_SIZE": f"{variables.QUEUE} sets the length of the queue",
    "BATCH_SIZE": f"{variables.BATCH_SIZE} sets the size of batches",
    "MAX_BATCH_DELAY": "a batch never waits for more requests",
    "CMD_ARGS": "gunicorn's settings are fixed",
}
"""Text of the warning by the end of the variable's name; the longest end counts."""


def without_effect(environ: Mapping[str, str]) -> list[str]:
    """Return a line for each set variable of another server that sets a limit or a number."""
    lines = []
    for name in sorted(environ):
        ends = [end for end in OURS if name.endswith(f"_{end}")]
        if ends and name.startswith(OTHERS) and environ[name] and not variables.is_known(name):
            lines.append(f"{name} has no effect here: {OURS[max(ends, key=len)]}")
    return lines
