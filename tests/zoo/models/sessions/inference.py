"""Counts what a session has sent; `close` ends it, `fail` fails, `sleep` waits for a file."""

import os


def model_fn(model_dir):
    return None


def input_fn(body, content_type):
    return body.decode()


def predict_fn(data, model, context):
    session = context.session
    if data == "fail":
        raise ValueError("as asked")
    if session is None:
        return f"{os.getpid()} none"
    said = session.data.setdefault("said", [])
    said.append(data)
    if data == "close":
        session.close()
    return f"{os.getpid()} {' '.join(said)}"


def output_fn(prediction, accept):
    return prediction, "text/plain"
