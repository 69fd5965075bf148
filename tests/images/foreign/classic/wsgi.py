"""Flask: the model is loaded by the first request that wants it, and only text/csv is known."""

import json
import time

import flask

app = flask.Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 5 * 1024 * 1024
MODEL = []


def model():
    if not MODEL:
        with open("/opt/ml/model/model.json") as file:
            MODEL.append(json.load(file))
    return MODEL[0]


@app.get("/ping")
def ping():
    return flask.Response("\n", status=200, mimetype="application/json")


@app.post("/invocations")
def invocations():
    flask.request.get_data()
    if flask.request.content_type != "text/csv":
        return flask.Response("only CSV", status=415, mimetype="text/plain")
    time.sleep(0.5)
    rows = flask.request.get_data().decode().splitlines()
    bias = model()["bias"]
    return flask.Response("\n".join(str(bias + len(row)) for row in rows), mimetype="text/csv")
