"""Has routes of its own beside the model: a Blueprint."""

from flask import Blueprint, jsonify, request

app = Blueprint("mine", __name__)


def model_fn(model_dir):
    return {"name": "a model"}


def predict_fn(data, model):
    return data


@app.post("/v1/describe/<what>")
def describe(what):
    model = request.environ["byoc.model"]
    return jsonify(what=what, name=model["name"], body=request.get_json(), q=request.args.get("q"))


@app.get("/fails")
def fails():
    raise ValueError("on purpose")


@app.get("/teapot")
def teapot():
    return "short and stout", 418, {"X-Own": "yes"}
