"""The routes that are not the model's, in Flask: what can be known of the server, and 404."""

from __future__ import annotations

import os
from collections.abc import Callable

from flask import Blueprint, Flask, Response, current_app, jsonify, request
from werkzeug.exceptions import HTTPException

from sagemaker_byoc.contract.hosting import http
from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.front.http import replies
from sagemaker_byoc.serving.front.telemetry.gauges import Gauges
from sagemaker_byoc.serving.front.telemetry.metrics import CONTENT_TYPE, Metrics
from sagemaker_byoc.serving.settings import Settings

GAUGES, SETTINGS, METRICS = "byoc_gauges", "byoc_settings", "byoc_metrics"

blueprint = Blueprint("server", __name__)


def create_app(settings: Settings, metrics: Metrics, gauges: Callable[[], Gauges]) -> Flask:
    app = Flask("sagemaker_byoc", static_folder=None)
    app.extensions.update({GAUGES: gauges, SETTINGS: settings, METRICS: metrics})
    app.register_blueprint(blueprint)
    app.register_error_handler(HTTPException, on_http_error)
    return app


@blueprint.route(http.METRICS.value)
def metrics() -> Response:
    found: Metrics = current_app.extensions[METRICS]
    text = found.text(current_app.extensions[GAUGES]())
    return Response(text, content_type=CONTENT_TYPE)


@blueprint.route(http.EXECUTION_PARAMETERS.value)
def execution_parameters() -> Response:
    """What a batch transform job may ask of this container; numbers are numbers."""
    settings: Settings = current_app.extensions[SETTINGS]
    return jsonify(
        MaxConcurrentTransforms=settings.concurrent_transforms,
        BatchStrategy=settings.batch_strategy,
        MaxPayloadInMB=settings.transform_megabytes,
    )


@blueprint.route(http.PING.value, methods=["GET", "POST"])
@blueprint.route(http.INVOCATIONS.value, methods=["POST"])
def elsewhere() -> Response:
    """Never called: the event loop answers these. Named here so that other methods get 405."""
    raise NotImplementedError


def on_http_error(error: HTTPException) -> Response:
    """404 and 405 as JSON too."""
    code = (error.name or "Error").replace(" ", "")
    message = f"{request.method} {request.path[:200]}: {error.name}"
    answer = replies.document(error.code or 500, code, message, os.urandom(8).hex())
    response = Response(answer.data, answer.status, content_type=media.JSON)
    for name, value in error.get_headers():
        if name.lower() == "allow":
            response.headers[name] = value
    return response
