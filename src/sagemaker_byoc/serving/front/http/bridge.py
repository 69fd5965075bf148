"""Flask beside the event loop: requests that are not the model's run on a few threads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from sagemaker_byoc.serving import log, wsgi
from sagemaker_byoc.serving.errors import Refusal
from sagemaker_byoc.serving.front.http.replies import (
    Answer,
    Send,
    document,
    send_answer,
    traceback_of,
)
from sagemaker_byoc.serving.front.http.requests import Receive, drain, read_small

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

THREADS = 4
BODY = 2**20
"""Bytes; nothing but a model's input is larger."""


class Bridge:
    """Makes the application when the first request for it comes: most servers never see one."""

    def __init__(self, create: Callable[[], WSGIApplication]) -> None:
        self._create = create
        self._app: WSGIApplication | None = None
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="flask")

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        try:
            body = await read_small(receive, BODY)
        except Refusal as refusal:
            request_id = os.urandom(8).hex()
            answer = document(refusal.status, refusal.code, refusal.message, request_id)
            await send_answer(send, answer)
            await drain(receive, BODY)
            return
        loop = asyncio.get_running_loop()
        await send_answer(send, await loop.run_in_executor(self._pool, self._run, scope, body))

    def _run(self, scope: Mapping[str, Any], body: bytes) -> Answer:
        if self._app is None:
            self._app = self._create()
        try:
            status, headers, data = wsgi.call(
                self._app, wsgi.environ_of(wsgi.Request.of_scope(scope), body)
            )
            own = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
            return Answer(status, own, data)
        except Exception as error:  # noqa: BLE001 - Flask answers its own errors; this is a defect
            request_id = os.urandom(8).hex()
            log.say(traceback_of(error, request_id))
            return document(500, "InternalError", "The server failed; see its log", request_id)
