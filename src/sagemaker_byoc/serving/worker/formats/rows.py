"""In a batch transform job: whether there is a line of output for each line of input.

SageMaker joins them by their order (`JoinSource`), and puts files together line by line; it can't
see that one is missing.
"""

from __future__ import annotations

from contextlib import suppress

from sagemaker_byoc.serving import log, media
from sagemaker_byoc.serving.errors import BadInput
from sagemaker_byoc.serving.worker.formats import csv_format
from sagemaker_byoc.serving.worker.jobs import Job

LINES = frozenset({media.CSV, media.JSON_LINES})


class RowCheck:
    """Says it once: thousands of requests would say the same."""

    def __init__(self, csv_header: str) -> None:
        self._csv_header = csv_header
        self._has_said = False

    def look(self, job: Job) -> None:
        if self._has_said or job.reply is None or "error" in job.reply.meta:
            return
        asked = media.parse(job.context.content_type or media.OCTETS)
        given = media.parse(str(job.reply.meta.get("content_type", media.OCTETS)))
        if asked is None or given is None or not {asked.canonical, given.canonical} <= LINES:
            return
        header = asked.parameters.get("header", self._csv_header)
        if asked.canonical == media.CSV and header == "auto":
            return  # whether the first line is one was for the decoder to say
        has_header = asked.canonical == media.CSV and header == "present"
        rows_in = _lines(bytes(job.frame.body.view()[:]), asked.canonical) - has_header
        rows_out = _lines(bytes(job.reply.body.view()[:]), given.canonical)
        if rows_in != rows_out:
            self._has_said = True
            log.say(
                f"warning: request {job.context.request_id} has {rows_in} rows and its reply "
                f"{rows_out}: a join of input and output needs one for each (said once)"
            )


def _lines(data: bytes, kind: str) -> int:
    """Count rows as the decoders do: blank lines are not rows, a quoted cell may have several."""
    if kind == media.CSV and b'"' in data:
        with suppress(BadInput):
            return len(csv_format.rows_of(data.decode(errors="replace")))
    return sum(1 for line in data.splitlines() if line.strip())
