"""Takes as long to load as the test wants: until the file $ZOO/load exists."""

import os
import pathlib
import time


def model_fn(model_dir):
    while not (pathlib.Path(os.environ["ZOO"]) / "load").exists():
        time.sleep(0.01)


def predict_fn(data, model):
    return data
