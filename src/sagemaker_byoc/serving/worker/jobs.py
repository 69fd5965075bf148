"""One request inside the worker, and the result of each stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

from sagemaker_byoc.contract import http
from sagemaker_byoc.serving import error_replies, log
from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.link import Frame, Kind
from sagemaker_byoc.serving.media import MediaType
from sagemaker_byoc.serving.worker.code import guard
from sagemaker_byoc.serving.worker.code.guard import Failure
from sagemaker_byoc.serving.worker.request_context import (
    HEADERS_SIZE,
    Context,
    checked_header,
    checked_name,
)
from sagemaker_byoc.serving.worker.sessions import Session

TYPE_LENGTH = 1000
"""Characters of a reply's Content-Type."""


@dataclass(slots=True)
class Job:
    """One request. `reply` is set as soon as it is known, even an error; later stages then skip it.

    Handlers may change the context; what the worker needs of a request is read from its frame.
    """

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
    """The headers of an application's reply, which may repeat a name."""
    session: Session | None = None

    def run(self, stage: str, function: Callable[[Job], None]) -> None:
        """Run a stage; whatever it raises becomes the reply."""
        self.run_all([(stage, function)])

    def run_all(self, stages: Sequence[tuple[str, Callable[[Job], None]]]) -> None:
        """Run stages one after the other until the reply is known."""
        failure = guard.stage(self._run_all, stages)
        if failure is not None:
            self.fail(failure)

    def _run_all(self, stages: Sequence[tuple[str, Callable[[Job], None]]]) -> None:
        began = time.perf_counter()
        for stage, function in stages:
            if self.reply is not None:
                return
            function(self)
            now = time.perf_counter()
            self.times[stage] = now - began
            began = now
            guard.between()

    def _placed(self, failure: Failure) -> Failure:
        """Return the failure with its status, if a toolkit does not know a media type: in or
        out."""
        if failure.code != error_replies.FORMAT_ERROR:
            return failure
        if "predict" in self.times:
            return replace(failure, status=HTTPStatus.NOT_ACCEPTABLE.value, code="NotAcceptable")
        return replace(failure, code="UnsupportedMediaType")

    def fail(self, failure: Failure) -> None:
        """Reply with the failure's type and text; the traceback goes to the log."""
        failure = self._placed(failure)
        self.complain(failure)
        self.reply = failed(self.frame, failure)

    def complain(self, failure: Failure) -> None:
        """Write ids and traceback to the log, once."""
        if failure.report:
            log.say(f"request {name_of(self.frame.meta)} failed: {failure.explained}")

    def succeed(self, content_type: str, data: bytes) -> None:
        self.reply = Frame(
            Kind.REPLY, self.frame.id, self.head(content_type), Body.of(exact_bytes(data))
        )

    def head(self, content_type: str) -> dict[str, Any]:
        """Return the reply's metadata; raise if a handler has set what a header cannot hold."""
        meta: dict[str, Any] = {
            "content_type": exact_header("Content-Type", content_type, TYPE_LENGTH),
            "times": self.times,
        }
        status = _exact_status(self.context.reply_status)
        if status != 200:
            meta["status"] = status
        headers = [*_headers_of(self.context), *self.headers]
        if headers:
            meta["headers"] = headers
        if self.session is not None and self.session.is_closed:
            meta["session_closed"] = True
        if self.batch > 1:
            meta["batch"] = self.batch
        return meta


def failed(request: Frame, failure: Failure) -> Frame:
    """Return the reply to a request that failed."""
    error = {"status": failure.status, "code": failure.code, "message": failure.message}
    return Frame(Kind.REPLY, request.id, {"error": error})


def name_of(meta: Mapping[str, Any]) -> str:
    """Return the request's id, and the caller's own, for the log."""
    inference = meta.get("headers", {}).get(http.INFERENCE_ID.value.lower())
    return f"{meta['request_id']}, inference id {inference}" if inference else meta["request_id"]


def exact_bytes(data: Any) -> bytes:
    """Return the value as plain bytes, since a subclass may report another length; raise TypeError
    if it is not a buffer."""
    return data if type(data) is bytes else memoryview(data).tobytes()


def _headers_of(context: Context) -> list[tuple[str, str]]:
    """Return header pairs that HTTP can carry, although handlers fill the dict as they like."""
    if not context.reply_headers:
        return []
    return exact_pairs(dict(context.reply_headers).items())


def exact_pairs(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return names and values that HTTP can carry, as plain str; raise for others."""
    pairs = []
    size = 0
    for name, value in headers:
        if not guard.isinstance_of(name, str) or not guard.isinstance_of(value, str):
            msg = f"a reply's header is text, not {log.kind_of(name)}: {log.kind_of(value)}"
            raise TypeError(msg)
        exact = checked_name(str.__getitem__(name, slice(HEADERS_SIZE)))
        pair = (exact, exact_header(exact, value))
        size += len(pair[0]) + len(pair[1])
        if size > HEADERS_SIZE:
            msg = f"the reply's headers exceed {HEADERS_SIZE} bytes"
            raise ValueError(msg)
        pairs.append(pair)
    return pairs


def _exact_status(status: object) -> int:
    if type(status) is not int or not 200 <= status <= 599:
        msg = f"{guard.clean(repr(status), 50)} can't be a reply's status"
        raise ValueError(msg)
    return status


def exact_header(name: str, value: str, limit: int = HEADERS_SIZE) -> str:
    """Return a value that HTTP can carry, as a plain str; raise ValueError for others."""
    exact = checked_header(name, str.__getitem__(value, slice(limit + 1)))  # of any subclass
    if len(exact) > limit:
        msg = f"header {name} has more than {limit} characters"
        raise ValueError(msg)
    return exact
