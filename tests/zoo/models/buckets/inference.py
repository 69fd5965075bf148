"""Doubles rows and notes the shapes that it is called with."""

import os
import pathlib

import numpy as np

SHAPES = pathlib.Path(os.environ["ZOO"]) / "shapes"

batch_buckets = (1, 4, 8)


def example_input():
    return np.zeros((1, 2), np.float32)


def model_fn(model_dir):
    return 2


def predict_fn(data, model):
    with SHAPES.open("a") as shapes:
        shapes.write(f"{data.shape}\n")
    return data * model
