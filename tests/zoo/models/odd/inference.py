"""Does at each place as the body says: {"input": SPEC, "predict": SPEC, "output": SPEC, …}.

ODD chooses what the file defines: `stages`, `transform`, `batch`, or `default`, for predict_fn
without output_fn.
"""

import os
import pathlib

import oddities
from oddities import made

KIND = os.environ.get("ODD", "stages")
LOADED = {"plain": "model"}
PLAIN = {"plain": "fine"}


def model_fn(model_dir):
    return made(oddities.read(os.environ.get("ODD_LOAD", "null")) or LOADED)


def at(place, asked, otherwise=None):
    oddities.restore()
    return made(asked[place]) if place in asked else otherwise


def odd_context(context, asked):
    """Change what a handler may reach of its request."""
    for name, spec in asked.get("context", {}).items():
        setattr(context, name, made(spec))
    for name, spec in asked.get("headers", {}).items():
        context.reply_headers[name] = made(spec)
    if context.session is not None:
        if "session" in asked:
            context.session.data = made(asked["session"])
        if asked.get("close"):
            context.session.close()


def _read(body):
    return body if isinstance(body, dict) else oddities.read(body)


def _predict(asked, model, context=None):
    if "pid" in asked:
        return [os.getpid()]
    if context is not None:
        odd_context(context, asked)
    return at("predict", asked, "predicted")


if KIND == "stages":

    def input_fn(body, content_type):
        asked = oddities.read(body)
        at("input", asked)
        return asked

    def predict_fn(asked, model, context):
        return asked, _predict(asked, model, context)

    def output_fn(prediction, accept):
        asked, value = prediction
        return at("output", asked, value)


if KIND == "default":

    def input_fn(body, content_type):
        return oddities.read(body)

    def predict_fn(asked, model, context):
        return _predict(asked, model, context)


if KIND == "transform":

    def transform_fn(model, body, content_type, accept, context):
        asked = oddities.read(body)
        if "pid" in asked:
            return str(os.getpid()), "text/plain"
        return _predict(asked, model, context)


if KIND == "batch":
    batch = 8

    def input_fn(body, content_type):
        asked = oddities.read(body)
        return at("input", asked, [asked])

    def predict_fn(data, model):
        if isinstance(data, list) and len(data) == 1 and isinstance(data[0], dict):
            return _predict(data[0], model)
        return data


def chat_fn(request, model):
    return at("chat", oddities.read(request["messages"][-1]["content"]), "said")


def bidirectional_fn(messages, model, context):
    asked = oddities.read(next(messages))
    if "pid" in asked:
        return iter([str(os.getpid())])
    return at("talk", asked, iter(()))


def load_adapter_fn(model, name, folder):
    at("adapter", oddities.read((pathlib.Path(folder) / "spec").read_text()))


def redact_fn(request, reply):
    return at("redact", oddities.read(request), (request, reply))


def app(environ, start_response):
    asked = oddities.read(environ["wsgi.input"].read())
    at("app", asked)
    start_response(
        at("status", asked, "200 OK"), at("pairs", asked, [("Content-Type", "text/plain")])
    )
    return at("body", asked, [b"fine"])
