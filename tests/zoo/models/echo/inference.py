"""Answers with what it was sent; tells its process id as a custom attribute."""

import os


def model_fn(model_dir):
    return os.getpid()


def input_fn(body, content_type):
    return body if isinstance(body, bytes) else body.encode()


def predict_fn(data, model):
    return data


def output_fn(prediction, accept, context):
    if context.custom_attributes:
        context.set_custom_attributes(f"{context.custom_attributes};pid={os.getpid()}")
    return prediction, context.content_type or accept
