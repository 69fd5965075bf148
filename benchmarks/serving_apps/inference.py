# ruff: noqa: ANN001, ANN201, ARG001
"""Our handlers for the same models: decoding and encoding are left to the server."""

import workload

batch = 32


def model_fn(model_dir):
    return workload.model()


def predict_fn(data, model):
    return workload.forward(model, data)
