"""One request inside the worker, with what each stage made of it."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from sagemaker_byoc.serving import log
from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.errors import MESSAGE_LENGTH, Refusal
from sagemaker_byoc.serving.link import Frame, Kind
from sagemaker_byoc.serving.media import MediaType
from sagemaker_byoc.serving.worker import defaults, raised
from sagemaker_byoc.serving.worker.context import Context


@dataclass(slots=True)
class Job:
    """`reply` is set as soon as it is known, be it an error; later stages then pass it over."""

    frame: Frame
    context: Context
    media_type: MediaType | None = None
    accept: str = ""
    data: Any = None
    prediction: Any = None
    batch: int = 1
    times: dict[str, float] = field(default_factory=dict)
    reply: Frame | None = None
    stream: Iterator[object] | None = None
    headers: Sequence[tuple[str, str]] = ()
    """Of an application's reply, which may have several of one name."""

    def run(self, stage: str, function: Callable[[Job], None]) -> None:
        """One stage; whatever it raises becomes the reply."""
        if self.reply is not None:
            return
        began = time.perf_counter()
        try:
            function(self)
        except Refusal as refusal:
            self.refuse(refusal)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code may raise anything
            self.fail(error)
        self.times[stage] = time.perf_counter() - began

    def refuse(self, refusal: Refusal) -> None:
        self.reply = self._error(refusal.status, refusal.code, refusal.message)

    def fail(self, error: BaseException) -> None:
        """The log gets the traceback, the caller type and text, or what the error has for it."""
        told = raised.told_by(error, is_output="predict" in self.times)
        if told is None:
            log.say(report_of(error, self.context))
            told = (*status_of(error), text_of(error))
        elif told[0] >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.say(report_of(error, self.context))
        self.reply = self._error(*told)

    def _error(self, status: int, code: str, message: str) -> Frame:
        error = {"status": status, "code": code, "message": message[:MESSAGE_LENGTH]}
        return Frame(Kind.REPLY, self.frame.id, {"error": error})

    def succeed(self, content_type: str, data: bytes) -> None:
        self.reply = Frame(Kind.REPLY, self.frame.id, self.head(content_type), Body.of(data))

    def head(self, content_type: str) -> dict[str, Any]:
        meta: dict[str, Any] = {"content_type": content_type, "times": self.times}
        if self.context.reply_status != 200:
            meta["status"] = self.context.reply_status
        if self.context.reply_headers or self.headers:
            meta["headers"] = [*self.context.reply_headers.items(), *self.headers]
        if self.context.session is not None and self.context.session.is_closed:
            meta["session_closed"] = True
        if self.batch > 1:
            meta["batch"] = self.batch
        return meta


def status_of(error: BaseException) -> tuple[int, str]:
    torch = defaults.torch_if_loaded()
    is_memory = isinstance(error, MemoryError) or (
        torch is not None and isinstance(error, torch.OutOfMemoryError)
    )
    return (507, "OutOfMemory") if is_memory else (500, "ModelError")


def text_of(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def report_of(error: BaseException, context: Context) -> str:
    """For the log, once: ids and the traceback from the user's function on."""
    inference = f", inference id {context.inference_id}" if context.inference_id else ""
    head = f"request {context.request_id}{inference} failed: {text_of(error)}"
    sys.stdout.flush()
    return f"{head}\n{''.join(traceback.format_exception(error))}"
