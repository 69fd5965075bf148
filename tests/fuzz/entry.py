"""What hypothesis and the coverage-guided fuzzer both call: a body through decoder and encoder.

Malformed input ends in a Refusal below 500, whatever it is; any other exception is a finding. That
neither time nor memory run away is for the caller to watch.
"""

from __future__ import annotations

import warnings

from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.error_replies import Refusal
from sagemaker_byoc.serving.media import MediaType
from sagemaker_byoc.serving.worker import defaults
from sagemaker_byoc.serving.worker.request_context import Context

CHARSETS = ("utf-8", "utf-16", "iso-8859-1", "us-ascii", "unicode_escape", "zlib")
HEADERS = ("absent", "present", "auto")


def decode_and_encode(kind: str, charset: str, header: str, body: bytes) -> int:
    """As if the model gave back what it got; the status that the caller would see."""
    context = Context("/m", "cpu", 0, content_type=kind)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of numpy, about what a body holds
            decoded = defaults.default_input(
                body, MediaType(kind, {"charset": charset}), context, header
            )
            for accept in defaults.SUPPORTED:
                encode(decoded, accept, context)
    except Refusal as refusal:
        if refusal.status >= 500:
            raise
        return refusal.status
    return 200


def encode(value: object, accept: str, context: Context) -> None:
    """Not every value has a form in every type; that is an answer too."""
    try:
        defaults.default_output(value, accept, context)
    except Refusal as refusal:
        if refusal.status != 406:
            raise


def headers(text: str) -> None:
    """Content-Type and Accept, which callers write as they like."""
    media.parse(text)
    chosen = media.choose(text, defaults.SUPPORTED, media.JSON)
    assert chosen is None or media.ALIASES.get(chosen, chosen) in defaults.SUPPORTED
    media.preferred(text, media.JSON)


def one(data: bytes) -> None:
    """Two bytes choose, the others are the body. The last kind is none of a body's."""
    if len(data) < 2:
        return
    kind = data[0] % (len(defaults.SUPPORTED) + 1)
    if kind == len(defaults.SUPPORTED):
        headers(data[1:].decode("latin-1"))
        return
    charset = CHARSETS[data[1] % len(CHARSETS)]
    header = HEADERS[data[1] // len(CHARSETS) % len(HEADERS)]
    decode_and_encode(defaults.SUPPORTED[kind], charset, header, data[2:])
