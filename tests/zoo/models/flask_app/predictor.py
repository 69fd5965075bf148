"""Flask, with its own /ping and /invocations, and a model that /ping loads."""

import os
import pathlib

import flask

MODEL = pathlib.Path(os.environ["ZOO"]) / "model" / "factor"
app = flask.Flask(__name__)


class Model:
    factor = None

    @classmethod
    def load(cls):
        if cls.factor is None:
            cls.factor = float(MODEL.read_text())
        return cls.factor


@app.route("/ping", methods=["GET"])
def ping():
    return flask.Response("\n", status=200 if MODEL.exists() and Model.load() else 404)


@app.route("/invocations", methods=["POST"])
def invocations():
    if flask.request.content_type != "text/csv":
        return flask.Response("This predictor only supports CSV data", 415, mimetype="text/plain")
    if flask.request.args.get("stream"):
        return flask.Response((f"{n}\n" for n in range(3)), mimetype="text/csv")
    if flask.request.data == b"refuse":
        flask.abort(422, "no such row")
    if flask.request.data == b"fail":
        raise RuntimeError("broken")
    rows = flask.request.data.decode().split()
    body = "".join(f"{Model.factor * float(row)}\n" for row in rows)
    response = flask.Response(body, mimetype="text/csv")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


@app.get("/about")
def about():
    return {"factor": Model.factor}


if __name__ == "__main__":
    app.run(port=8080)
