"""The routes that are not the model's, in Flask, on a few threads beside the event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from sagemaker_byoc.contract import http
from sagemaker_byoc.serving import log, media, wsgi
from sagemaker_byoc.serving.error_replies import Refusal
from sagemaker_byoc.serving.front.http.replies import (
    DEFECT,
    Answer,
    Send,
    document,
    refused,
    send_answer,
    traceback_of,
)
from sagemaker_byoc.serving.front.http.requests import Receive, drain, read_small
from sagemaker_byoc.serving.front.telemetry import CONTENT_TYPE, Gauges, Metrics
from sagemaker_byoc.serving.settings import Settings

if TYPE_CHECKING:
    from flask import Flask, Response
    from werkzeug.exceptions import HTTPException

THREADS = 4
BODY = 2**20
"""Largest body in bytes; only input of a model may be larger."""


class FlaskRoutes:
    """Run the Flask application, which `create` makes for the first request: most servers never
    need it."""

    def __init__(self, create: Callable[[], Flask]) -> None:
        self._create = create
        self._app: Flask | None = None
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="flask")

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        try:
            body = await read_small(receive, BODY)
        except Refusal as refusal:
            await send_answer(send, refused(refusal))
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
            return refused(Refusal(DEFECT), request_id)


def create_app(
    settings: Settings,
    metrics: Metrics,
    gauges: Callable[[], Gauges],
    workers: Callable[[], int],
) -> Flask:
    """Return the application: metrics, execution parameters, and 404 and 405 as JSON."""
    from flask import Flask, Response, jsonify  # noqa: PLC0415 - see FlaskRoutes
    from werkzeug.exceptions import HTTPException  # noqa: PLC0415

    app = Flask("sagemaker_byoc", static_folder=None)

    @app.get(http.METRICS.value)
    def read_metrics() -> Response:
        return Response(metrics.text(gauges()), content_type=CONTENT_TYPE)

    @app.get(http.EXECUTION_PARAMETERS.value)
    def execution_parameters() -> Response:
        """Answer what a batch transform job may ask; numbers are JSON numbers."""
        return jsonify(
            MaxConcurrentTransforms=settings.concurrent_transforms(workers()),
            BatchStrategy=settings.batch_strategy,
            MaxPayloadInMB=settings.transform_megabytes,
        )

    @app.route(http.PING.value, methods=["GET", "POST"])
    @app.post(http.INVOCATIONS.value)
    def elsewhere() -> Response:
        """Never called: the event loop answers these routes. They make other methods get 405."""
        raise NotImplementedError

    app.register_error_handler(HTTPException, _on_http_error)
    return app


def _on_http_error(error: HTTPException) -> Response:
    from flask import Response, request  # noqa: PLC0415

    code = (error.name or "Error").replace(" ", "")
    message = f"{request.method} {request.path[:200]}: {error.name}"
    answer = document(error.code or 500, code, message)
    response = Response(answer.data, answer.status, content_type=media.JSON)
    for name, value in error.get_headers():
        if name.lower() == "allow":
            response.headers[name] = value
    return response
