"""Does at each place as the body says: {"input": SPEC, "predict": SPEC, "output": SPEC, …}.

ODD chooses what the file defines: `stages`, `transform`, `batch`, `default`, for predict_fn
without output_fn, or `async`: a service whose `handle` is a coroutine, beside an ASGI application.
"""

import asyncio
import os
import pathlib

import oddities
from oddities import made

KIND = os.environ.get("ODD", "stages")
LOADED = {"plain": "model"}
PLAIN = {"plain": "fine"}


if KIND != "async":

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


if KIND == "async":

    class Service:
        def initialize(self, context):
            self.context = context

        async def handle(self, data, context):
            asked = oddities.read(data[0]["body"])
            await asyncio.sleep(0)
            results = at("results", asked, [_predict(asked, None, context)])
            await asyncio.sleep(0)
            return results


def chat_fn(request, model):
    return at("chat", oddities.read(request["messages"][-1]["content"]), "said")


if KIND != "async":

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


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
    asked = oddities.read((await receive())["body"])
    at("app", asked)
    start = {
        "type": "http.response.start",
        "status": at("status", asked, 200),
        "headers": at("pairs", asked, [(b"content-type", b"text/plain")]),
    }
    body = {"type": "http.response.body", "body": at("body", asked, b"fine")}
    for message in at("messages", asked, [start, body]):
        await send(message)


if KIND == "async":
    app = asgi
