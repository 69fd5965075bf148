"""Misbehaves as each request tells it to. It waits for files in $ZOO, so that tests are in charge.

One model for many faults, because each server that a test starts costs a second.
"""

import os
import pathlib
import signal
import time

FOLDER = pathlib.Path(os.environ["ZOO"])


def wait(name):
    (FOLDER / f"{name}.running").touch()
    while not (FOLDER / name).exists():
        time.sleep(0.005)


def fail(text):
    raise ValueError(text)


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def leave(text):
    raise SystemExit(text)


def exhaust(text):
    raise MemoryError(text)


def hang(_):
    while True:
        time.sleep(1)


COMMANDS = {
    "wait": wait,
    "fail": fail,
    "die": die,
    "leave": leave,
    "exhaust": exhaust,
    "hang": hang,
    "print": print,
    "object": lambda _: object(),
}


def model_fn(model_dir):
    return os.getpid()


def input_fn(body, content_type):
    return body.decode()


def predict_fn(data, model):
    command, _, argument = data.partition(" ")
    result = COMMANDS.get(command, lambda _: None)(argument)
    return result or f"{os.getpid()} {data}"


def output_fn(prediction, accept):
    return prediction, "text/plain"
