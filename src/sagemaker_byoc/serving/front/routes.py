"""The Flask lane: /ping and /invocations. Waits on the broker; decides nothing about the model."""

from __future__ import annotations

import json
import os
import queue
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from flask import Blueprint, Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException

from sagemaker_byoc.contract import http
from sagemaker_byoc.serving import log, media
from sagemaker_byoc.serving.errors import PayloadTooLarge, Refusal, SlowUpload
from sagemaker_byoc.serving.front import replies
from sagemaker_byoc.serving.front.body import drain, read_body
from sagemaker_byoc.serving.front.broker import Broker, Permit
from sagemaker_byoc.serving.front.tickets import Outcome
from sagemaker_byoc.serving.settings import Settings

EXTENSION = "sagemaker_byoc"
SAGEMAKER_HEADER = "HTTP_X_AMZN_SAGEMAKER_"
UPLOAD_PAUSE = 20.0
"""Seconds that a client may pause while it sends a body or takes a reply."""

REFUSAL_PATIENCE = 1.0
"""Seconds to take in a body that nobody wants, so that the refusal can be read."""

blueprint = Blueprint("sagemaker", __name__)


@dataclass(slots=True)
class Front:
    """What the views need."""

    broker: Broker
    settings: Settings
    last_ping: str = ""


def create_app(broker: Broker, settings: Settings) -> Flask:
    app = Flask("sagemaker_byoc", static_folder=None)
    app.extensions[EXTENSION] = Front(broker, settings)
    app.register_blueprint(blueprint)
    app.register_error_handler(HTTPException, on_http_error)
    app.register_error_handler(Exception, on_defect)
    return app


def _front() -> Front:
    front = current_app.extensions[EXTENSION]
    assert isinstance(front, Front)
    return front


@blueprint.route(http.PING.value, methods=["GET", "POST"])  # Flask adds HEAD
def ping() -> Response:
    """From the broker's memory: never waits for a worker."""
    front = _front()
    health = front.broker.health()
    if health.status != front.last_ping:
        front.last_ping = health.status
        log.say(f"ping: {health.status}" + (f": {health.reason}" if health.reason else ""))
    if health.is_ready:
        response = Response(status=HTTPStatus.OK)
        del response.headers["Content-Type"]  # of an empty body there is none
        return response
    document = json.dumps({"status": health.status, "reason": health.reason})
    return Response(document, HTTPStatus.SERVICE_UNAVAILABLE, mimetype=media.JSON)


@blueprint.route(http.INVOCATIONS.value, methods=["POST"])
def invocations() -> Response:
    """One request: admission, body, the model, reply; and one line in the log."""
    call = replies.Call(
        request_id=os.urandom(8).hex(),
        inference_id=request.headers.get(http.INFERENCE_ID.value, ""),
        began=time.monotonic(),
    )
    front = _front()
    connection = request.environ.get("gunicorn.socket")
    if connection is not None:
        # gunicorn's own sockets wait for ever, and a stalled client would keep its thread.
        connection.settimeout(UPLOAD_PAUSE)
    try:
        permit = front.broker.admit()
    except Refusal as refusal:
        drain(request.environ["wsgi.input"], 0, REFUSAL_PATIENCE)
        return replies.refused(call, refusal)
    response = _invoke(front, call, permit)
    response.call_on_close(permit.release)
    return response


def _invoke(front: Front, call: replies.Call, permit: Permit) -> Response:
    try:
        outcome = _run(front, call)
        return replies.answered(call, outcome, permit.release)
    except Refusal as refusal:
        response = replies.refused(call, refusal)
        if isinstance(refusal, PayloadTooLarge | SlowUpload):
            response.headers["Connection"] = "close"  # the rest of the body is still to come
        return response
    except BaseException:
        permit.release()
        raise


def _run(front: Front, call: replies.Call) -> Outcome:
    deadline = call.began + front.settings.deadline
    environ = request.environ
    body = read_body(
        environ["wsgi.input"],
        length=request.content_length,
        limit=front.settings.payload,
        deadline=deadline,
    )
    call.bytes_in = body.size
    outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    front.broker.submit(_meta(call, deadline, environ), body, deadline, outcomes.put)
    return outcomes.get()  # the broker ends every ticket, at the latest at its deadline


def _meta(call: replies.Call, deadline: float, environ: Mapping[str, object]) -> dict[str, object]:
    """What the worker is told; of all headers only the platform's, since it strips the rest."""
    return {
        "content_type": str(environ.get("CONTENT_TYPE", "")),
        "accept": str(environ.get("HTTP_ACCEPT", "")),
        "request_id": call.request_id,
        "deadline": deadline,
        "headers": {
            name.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
            for name, value in environ.items()
            if name.startswith(SAGEMAKER_HEADER)
        },
    }


def on_http_error(error: HTTPException) -> Response:
    """404 and 405 as JSON too."""
    code = (error.name or "Error").replace(" ", "")
    message = f"{request.method} {request.path[:200]}: {error.name}"
    response = replies.document(error.code or 500, code, message, os.urandom(8).hex())
    for name, value in error.get_headers():
        if name.lower() == "allow":
            response.headers[name] = value
    return response


def on_defect(error: Exception) -> Response:
    """A defect of ours: the traceback goes to the log, its id to the caller."""
    request_id = os.urandom(8).hex()
    log.say(replies.traceback_of(error, request_id))
    return replies.document(500, "InternalError", "The server failed; see its log", request_id)
