"""One request inside the worker: body → handlers → reply; every error becomes a typed answer."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagemaker_byoc.serving import log, media
from sagemaker_byoc.serving.errors import (
    MESSAGE_LENGTH,
    NotAcceptable,
    Refusal,
    UnsupportedType,
)
from sagemaker_byoc.serving.link import Body, Data, Frame, Kind
from sagemaker_byoc.serving.media import MediaType
from sagemaker_byoc.serving.settings import Settings
from sagemaker_byoc.serving.worker import codecs, default_model, defaults
from sagemaker_byoc.serving.worker.context import Context, checked_header
from sagemaker_byoc.serving.worker.handlers import Handlers

TEXT_TYPES = (media.JSON, media.CSV)
"""AWS's toolkits decode these two for input_fn and leave all others as bytes."""


@dataclass(slots=True)
class Pipeline:
    """A loaded model with its handlers."""

    settings: Settings
    handlers: Handlers
    slot: int
    model: Any = None
    device: str = "cpu"
    model_dir: str = ""

    def load(self) -> None:
        """Model and warm-up; raises whatever the user's functions raise."""
        model_dir = self.model_dir = str(self.settings.tree.model)
        self._call("pre_model_fn", model_dir)
        if self.handlers.get("model_fn") is None:
            self.model = default_model.load(Path(model_dir))
        else:
            self.device = _device()
            self.model = self._call("model_fn", model_dir)
        self.device = _device()
        self._call("model_warmup_fn", model_dir, self.model)

    def _call(self, name: str, *arguments: object) -> object:
        handler = self.handlers.get(name)
        context = Context(self.model_dir, self.device, self.slot)
        return None if handler is None else handler(*arguments, context=context)

    def answer(self, request: Frame) -> Frame:
        """Never raises for what a request or a handler does."""
        context = self._context(request.meta)
        try:
            content_type, data = self._run(request.body, context)
        except Refusal as refusal:
            return _error(request.id, refusal.status, refusal.code, refusal.message)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code may raise anything
            log.say(_report(error, context))
            return _error(request.id, *_status_of(error), _text_of(error))
        meta: dict[str, object] = {"content_type": content_type, "headers": context.reply_headers}
        return Frame(Kind.REPLY, request.id, meta, Body.of(data))

    def _context(self, meta: Mapping[str, Any]) -> Context:
        return Context(
            self.model_dir,
            self.device,
            self.slot,
            request_id=meta["request_id"],
            content_type=meta["content_type"],
            accept=meta["accept"],
            headers=meta["headers"],
            deadline=meta["deadline"],
        )

    def _run(self, body: Body, context: Context) -> tuple[str, bytes]:
        media_type = self._media_type(context)
        accept = self._accept(context)
        data = body.view()
        transform = self.handlers.get("transform_fn")
        if transform is not None:
            arguments = (self.model, *user_body(data, media_type, context), accept)
            result = transform(*arguments, context=context)
        else:
            prediction = self._predict(self._input(data, media_type, context), context)
            result = self._output(prediction, accept, context)
        return _reply(result, accept, context)

    def _media_type(self, context: Context) -> MediaType:
        """Of an absent Content-Type nothing is known; bytes, as RFC 9110 8.3 allows."""
        parsed = media.parse(context.content_type or media.OCTETS)
        if parsed is None:
            raise UnsupportedType(f"Content-Type {context.content_type[:100]!r} is no media type")
        return parsed

    def _accept(self, context: Context) -> str:
        """One type to answer with; decided before the model runs, when it can be refused."""
        default = self.settings.default_accept
        if self.handlers.get("output_fn") or self.handlers.get("transform_fn"):
            return media.preferred(context.accept, default)
        chosen = media.choose(context.accept, defaults.SUPPORTED, default)
        if chosen is None:
            raise NotAcceptable(
                f"Accept {context.accept[:200]!r} matches none of {', '.join(defaults.SUPPORTED)}"
            )
        return chosen

    def _input(self, data: Data, media_type: MediaType, context: Context) -> object:
        handler = self.handlers.get("input_fn")
        if handler is None:
            return defaults.default_input(data, media_type, context, self.settings.csv_header)
        return handler(*user_body(data, media_type, context), context=context)

    def _predict(self, data: object, context: Context) -> object:
        handler = self.handlers.get("predict_fn")
        if handler is None:
            return defaults.default_predict(data, self.model)
        return handler(data, self.model, context=context)

    def _output(self, prediction: object, accept: str, context: Context) -> object:
        handler = self.handlers.get("output_fn")
        if handler is None:
            return defaults.default_output(prediction, accept, context)
        return handler(prediction, accept, context=context)


def user_body(data: Data, media_type: MediaType, context: Context) -> tuple[str | bytes, str]:
    """Body and content type as handlers written for AWS's toolkits compare and parse them.

    JSON and CSV come as text, under the bare type: the charset has been used up. All else comes as
    bytes, with the header as it was: multipart, for one, needs its parameters.
    """
    raw = bytes(data[:])
    if media_type.essence not in TEXT_TYPES:
        return raw, context.content_type or media_type.essence
    return codecs.text_of(raw, media_type), media_type.essence


def _reply(result: object, accept: str, context: Context) -> tuple[str, bytes]:
    """Content type and bytes from what output_fn may return: a body, or (body, content type)."""
    content_type = accept
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], str):
        result, content_type = result
    content_type = checked_header("Content-Type", context.reply_content_type or content_type)
    if isinstance(result, str):
        return content_type, result.encode()
    if isinstance(result, bytes | bytearray | memoryview):
        return content_type, bytes(result)
    parsed = media.parse(content_type)
    if parsed is not None and parsed.canonical in defaults.SUPPORTED:
        return content_type, defaults.default_output(result, parsed.canonical, context)
    raise TypeError(f"the output is {type(result).__name__}; return bytes, str, or (body, type)")


def _device() -> str:
    return "cpu" if defaults.torch_if_loaded() is None else default_model.device()


def _status_of(error: BaseException) -> tuple[int, str]:
    torch = defaults.torch_if_loaded()
    is_memory = isinstance(error, MemoryError) or (
        torch is not None and isinstance(error, torch.OutOfMemoryError)
    )
    return (507, "OutOfMemory") if is_memory else (500, "ModelError")


def _text_of(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _error(ident: int, status: int, code: str, message: str) -> Frame:
    error = {"status": status, "code": code, "message": message[:MESSAGE_LENGTH]}
    return Frame(Kind.REPLY, ident, {"error": error})


def _report(error: BaseException, context: Context) -> str:
    """For the log, once: ids and the traceback from the user's function on."""
    inference = f", inference id {context.inference_id}" if context.inference_id else ""
    head = f"request {context.request_id}{inference} failed: {_text_of(error)}"
    sys.stdout.flush()
    return f"{head}\n{''.join(traceback.format_exception(error))}"
