# ruff: noqa: ANN001, ANN201, ARG001
"""The handler as people write it: two functions; decoding and encoding are left to the server."""

import workload


def model_fn(model_dir):
    return workload.model()


def predict_fn(data, model):
    return workload.forward(model, data)
