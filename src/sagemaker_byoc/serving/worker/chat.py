"""`POST /v1/chat/completions`: the request for the user's `chat_fn`, and its reply for OpenAI's
clients.

A dict is returned as it is; text becomes the one choice of a completion; a generator of either
becomes the chunks of a stream. The handler decides what the request means (messages, tools,
sampling).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.error_replies import BadInput
from sagemaker_byoc.serving.worker.formats import codecs
from sagemaker_byoc.serving.worker.jobs import Job

DONE = "[DONE]"
"""The last event of a stream, which OpenAI's clients wait for."""


def decode(job: Job) -> None:
    """Set `data` to the request; with "stream": true the reply will be events."""
    try:
        request = orjson.loads(bytes(job.frame.body.view()[:]))
    except orjson.JSONDecodeError as error:
        raise BadInput(f"The body is not JSON: {error}") from None
    if not isinstance(request, dict) or not isinstance(request.get("messages"), list):
        raise BadInput('The body must be an object with a list "messages"')
    job.data = request
    job.accept = media.EVENT_STREAM if request.get("stream") is True else media.JSON


def encode(job: Job) -> None:
    """Write one document or a stream; text gets the form that the request asks for."""
    result = job.prediction
    if job.accept == media.EVENT_STREAM:
        items = result if isinstance(result, Iterator) else iter([result])
        job.stream = _chunks(job, items)
        return
    if isinstance(result, Iterator):
        pieces = list(result)
        if not all(isinstance(piece, str) for piece in pieces):
            raise TypeError('chat_fn yields dicts for a request without "stream": true')
        result = "".join(pieces)
    job.succeed(media.JSON, codecs.encode_json(_completion(job, result)))


def _completion(job: Job, result: object) -> Mapping[str, Any]:
    if isinstance(result, Mapping):
        return result
    if not isinstance(result, str):
        raise TypeError(f"chat_fn returned {type(result).__name__}; return a dict, str, or yield")
    message = {"role": "assistant", "content": result}
    return _envelope(job, "chat.completion", {"message": message, "finish_reason": "stop"})


def _chunks(job: Job, items: Iterator[object]) -> Iterator[object]:
    """Yield dicts as they are, and text as parts of one choice."""
    is_text = False
    for item in items:
        if isinstance(item, Mapping):
            yield item
            continue
        if not isinstance(item, str):
            raise TypeError(f"chat_fn yielded {type(item).__name__}; yield dicts or str")
        delta = {"content": item} if is_text else {"role": "assistant", "content": item}
        is_text = True
        yield _envelope(job, "chat.completion.chunk", {"delta": delta, "finish_reason": None})
    if is_text:
        yield _envelope(job, "chat.completion.chunk", {"delta": {}, "finish_reason": "stop"})
    yield DONE


def _envelope(job: Job, kind: str, choice: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{job.context.request_id}",
        "object": kind,
        "created": int(time.time()),
        "model": str(job.data.get("model") or ""),
        "choices": [{"index": 0, **choice}],
    }
