"""A model whose adapters are words in files; one named `bad` can't be loaded."""

import os
import pathlib


def model_fn(model_dir):
    return {}


def load_adapter_fn(model, name, folder):
    if name == "bad":
        raise ValueError("rank 7 does not fit")
    if name == "large":
        raise MemoryError("no room")
    model[name] = (pathlib.Path(folder) / "word").read_text()


def unload_adapter_fn(model, name):
    del model[name]


def input_fn(body, content_type):
    return body.decode()


def predict_fn(data, model, context):
    word = model[context.adapter] if context.adapter else "none"
    return f"{os.getpid()} {word} {sorted(model)}"


def output_fn(prediction, accept):
    return prediction, "text/plain"
