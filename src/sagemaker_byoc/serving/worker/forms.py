"""The forms in which bodies reach a user's functions, and in which they may hand back a reply."""

from __future__ import annotations

from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.bodies import Data
from sagemaker_byoc.serving.media import MediaType
from sagemaker_byoc.serving.worker import codecs, defaults
from sagemaker_byoc.serving.worker.context import Context, checked_header
from sagemaker_byoc.serving.worker.jobs import Job, exact_bytes

TEXT_TYPES = (media.JSON, media.CSV)
"""AWS's toolkits decode these two for input_fn and leave all others as bytes."""
RAW = ("image/", "audio/", "video/", media.OCTETS)
"""Types that a predict_fn without an input_fn gets as bytes."""


def user_body(data: Data, media_type: MediaType, context: Context) -> tuple[str | bytes, str]:
    """Body and content type as handlers written for AWS's toolkits compare and parse them.

    JSON and CSV come as text, under the bare type: the charset has been used up. All else comes as
    bytes, with the header as it was: multipart, for one, needs its parameters.
    """
    raw = bytes(data[:])
    if media_type.essence not in TEXT_TYPES:
        return raw, context.content_type or media_type.essence
    return codecs.text_of(raw, media_type), media_type.essence


def is_raw(media_type: MediaType) -> bool:
    return media_type.essence.startswith(RAW)


def reply(result: object, job: Job, *, is_default: bool) -> tuple[str, bytes]:
    """Content type and bytes from what output_fn, or predict_fn without one, may return."""
    content_type = checked_header("Content-Type", job.context.reply_content_type or job.accept)
    if not is_default or job.context.reply_content_type:
        if isinstance(result, str):
            return content_type, str.encode(result)  # past what a subclass says
        if isinstance(result, bytes | bytearray | memoryview):
            return content_type, exact_bytes(result)
    parsed = media.parse(content_type)
    if parsed is not None and parsed.canonical in defaults.SUPPORTED:
        return content_type, defaults.default_output(result, parsed.canonical, job.context)
    raise TypeError(f"the output is {type(result).__name__}; return bytes, str, or (body, type)")
