"""The forms in which bodies are passed to the user's functions and returned, and a check of their
rows."""

from __future__ import annotations

from contextlib import suppress

from sagemaker_byoc.serving import log, media
from sagemaker_byoc.serving.bodies import Data
from sagemaker_byoc.serving.error_replies import BadInput
from sagemaker_byoc.serving.media import MediaType
from sagemaker_byoc.serving.worker import defaults
from sagemaker_byoc.serving.worker.formats import codecs, csv_format
from sagemaker_byoc.serving.worker.jobs import Job, exact_bytes
from sagemaker_byoc.serving.worker.request_context import Context, checked_header

TEXT_TYPES = (media.JSON, media.CSV)
"""Types that AWS's toolkits decode for input_fn; all others stay bytes."""
RAW = ("image/", "audio/", "video/", media.OCTETS)
"""Types that a predict_fn without an input_fn gets as bytes; text types but CSV it gets as text."""


def user_body(data: Data, media_type: MediaType, context: Context) -> tuple[str | bytes, str]:
    """Return body and content type as handlers written for AWS's toolkits compare and parse them.

    JSON and CSV are text, under the bare type: the charset has been applied. All others are bytes,
    with the header as it was: multipart, for one, needs its parameters.
    """
    raw = bytes(data[:])
    if media_type.essence not in TEXT_TYPES:
        return raw, context.content_type or media_type.essence
    return codecs.text_of(raw, media_type), media_type.essence


def raw(data: Data, media_type: MediaType) -> str | bytes | None:
    """Return the body as it is, for types without a decoder; None for all others."""
    if media_type.essence.startswith(RAW):
        return bytes(data[:])
    if media_type.essence.startswith("text/") and media_type.essence != media.CSV:
        return codecs.text_of(bytes(data[:]), media_type)
    return None


def reply(result: object, job: Job, *, is_default: bool) -> tuple[str, bytes]:
    """Return content type and bytes from what output_fn, or predict_fn without one, returned."""
    content_type = checked_header("Content-Type", job.context.reply_content_type or job.accept)
    parsed = media.parse(content_type)
    if not is_default or job.context.reply_content_type:
        if isinstance(result, str):
            return content_type, codecs.encode_text(result, parsed)
        if isinstance(result, bytes | bytearray | memoryview):
            return content_type, exact_bytes(result)
    if parsed is not None and parsed.canonical in defaults.SUPPORTED:
        return content_type, defaults.default_output(result, parsed.canonical, job.context)
    raise TypeError(f"the output is {type(result).__name__}; return bytes, str, or (body, type)")


def pair(result: object, *, is_default: bool) -> tuple[object, str] | None:
    """Return body and content type if a function returned both; an empty type is the default.

    output_fn and transform_fn may do so, as for AWS's toolkits, which ignore further items. What
    predict_fn returns is data, and two strings are two values; only bytes, which no other type has
    a form for, are a body there too.
    """
    if not isinstance(result, tuple) or len(result) < 2 or (is_default and len(result) > 2):
        return None
    body, content_type = result[:2]
    if not isinstance(content_type, str):
        return None
    is_bytes = isinstance(body, bytes | bytearray | memoryview)
    parsed = media.parse(content_type)
    if parsed is not None:
        if "*" in parsed.essence:  # an Accept header, which names no single type
            content_type = ""
        is_pair = is_bytes or not is_default
        return (body, checked_header("Content-Type", content_type)) if is_pair else None
    if is_bytes:
        msg = f"{content_type[:80]!r}, returned beside the body, is not a media type"
        raise ValueError(msg)
    return None  # two values of which one is text


LINES = frozenset({media.CSV, media.JSON_LINES})


class RowCheck:
    """In batch transform jobs, warn once if a reply does not have a line for each line of its
    request.

    SageMaker joins them by their order (`JoinSource`), and concatenates files line by line; it
    cannot notice that one is missing.
    """

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
            return  # only the decoder knows whether the first line is a header
        has_header = asked.canonical == media.CSV and header == "present"
        rows_in = _lines(bytes(job.frame.body.view()[:]), asked.canonical) - has_header
        rows_out = _lines(bytes(job.reply.body.view()[:]), given.canonical)
        if rows_in != rows_out:
            self._has_said = True
            log.say(
                f"warning: request {job.context.request_id} has {rows_in} rows and its reply "
                f"{rows_out}: a join of input and output needs one for each (logged once)"
            )


def _lines(data: bytes, kind: str) -> int:
    """Count rows as the decoders do: blank lines are not rows, a quoted cell may have several."""
    if kind == media.CSV and b'"' in data:
        with suppress(BadInput):
            return len(csv_format.rows_of(data.decode(errors="replace")))
    return sum(1 for line in data.splitlines() if line.strip())
