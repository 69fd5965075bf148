"""Answers with what it got, in the type that was asked for; waits, streams or fails when told to.

With $REDACT it has a redact_fn, which misbehaves when told to.
"""

import os
import pathlib
import time

FOLDER = pathlib.Path(os.environ["ZOO"])


def model_fn(model_dir):
    return None


def input_fn(body, content_type):
    return body if isinstance(body, bytes) else body.encode()


def predict_fn(data, model):
    if data == b"fail":
        raise ValueError("on purpose")
    if data.startswith(b"wait"):
        (FOLDER / "wait.running").touch()
        while not (FOLDER / "wait").exists():
            time.sleep(0.005)
    return data


def output_fn(prediction, accept):
    if prediction.startswith(b"stream"):
        return iter([prediction[:3], prediction[3:]])
    return prediction, accept


if os.environ.get("REDACT"):

    def redact_fn(request, reply, context):
        if b"secret-none" in request:
            return None
        if b"secret-fail" in request:
            raise ValueError(request)
        if b"secret-type" in request:
            return request
        assert context.content_type
        assert context.reply_content_type
        return b"*" * len(request), reply.replace(b"secret", b"******")
