"""Handler services: `initialize(context)` and `handle(data, context)` for multi-model-server and
TorchServe.

`handle` gets a list with one request and returns a list with one reply.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.error_replies import MESSAGE_LENGTH
from sagemaker_byoc.serving.worker.code import coroutines
from sagemaker_byoc.serving.worker.request_context import Context

DECODE = ("MMS_DECODE_INPUT_REQUEST", "TS_DECODE_INPUT_REQUEST")
""""true" lets JSON be decoded, as both servers do; AWS's containers set them to false."""
TRACEBACK = "\nTraceback (most recent call last)"


class ServiceError(Exception):
    """What `handle` returned is not a reply, or it has set an error status."""

    def __init__(self, message: str, status_code: int = 500) -> None:
        self.status_code = status_code
        self.message = message
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Service:
    """One entry point. `make` returns it, initialized."""

    make: Callable[[Context], Callable[[Any, Context], Any]]

    def load(self, _model_dir: str, context: Context) -> Any:
        """Act as model_fn; the model is the entry point."""
        return self.make(context)

    def transform(
        self, handle: Any, body: str | bytes, content_type: str, _accept: str, context: Context
    ) -> Any:
        """Act as transform_fn."""
        data = body.encode() if isinstance(body, str) else body
        value = _decoded(data) if content_type == media.JSON and _decodes() else data
        results = coroutines.settled(handle([{"body": value}], context))
        if not isinstance(results, list | tuple) or len(results) != 1:
            raise ServiceError(f"handle returned {type(results).__name__}, not a list of one reply")
        result = results[0]
        if context.reply_status >= 400 and isinstance(result, str):
            told, _, _ = result.partition(TRACEBACK)
            raise ServiceError(told[:MESSAGE_LENGTH], context.reply_status)
        if not isinstance(result, str | bytes | bytearray):
            context.reply_content_type = context.reply_content_type or media.JSON
        return result


def find(module: ModuleType) -> Service | None:
    """Return `handle` in the file, an object `_service`, or the one class that has both methods."""
    handle = getattr(module, "handle", None)
    if callable(handle):
        return Service(lambda context: _begun(handle, context))
    classes = [
        found
        for found in vars(module).values()
        if inspect.isclass(found) and _is_service(found) and found.__module__ == module.__name__
    ]
    if not classes:  # `from its_package import HandlerService` is all of the file
        named = [found for found in vars(module).values() if inspect.isclass(found)]
        classes = [found for found in named if _is_service(found)]
    classes = [found for found in classes if not _is_parent(found, classes)]
    if len(classes) != 1:
        return None
    return Service(lambda context: _made(classes[0], context))


def _is_service(found: type) -> bool:
    return all(callable(getattr(found, name, None)) for name in ("initialize", "handle")) and (
        not inspect.isabstract(found)
    )


def _is_parent(found: type, classes: list[type]) -> bool:
    return any(found is not other and issubclass(other, found) for other in classes)


def _begun(handle: Callable[[Any, Context], Any], context: Context) -> Callable[..., Any]:
    """Call it once without data, as both servers do: that is when it loads its model."""
    coroutines.settled(handle(None, context))
    return handle


def _made(found: type, context: Context) -> Callable[..., Any]:
    service: Any = found()
    coroutines.settled(service.initialize(context))
    handle: Callable[..., Any] = service.handle
    return handle


def _decodes() -> bool:
    return any(os.environ.get(name, "").lower() == "true" for name in DECODE)


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data  # as the servers: what is not JSON is the handler's to refuse
