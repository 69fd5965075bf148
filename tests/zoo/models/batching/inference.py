"""Doubles rows, several requests at once; a batch with 77 in it waits for the file $ZOO/hold."""

import os
import pathlib
import time

import numpy as np

FOLDER = pathlib.Path(os.environ["ZOO"])

batch = 4


def model_fn(model_dir):
    return 2


def predict_fn(data, model):
    if np.any(data == 99):
        raise ValueError("99 is poison")
    if np.any(data == 77):
        (FOLDER / "running").touch()
        while not (FOLDER / "hold").exists():
            time.sleep(0.005)
    with (FOLDER / "sizes").open("a") as sizes:
        sizes.write(f"{len(data)}x{data.shape[1:]}{data.dtype}\n")
    return data * model
