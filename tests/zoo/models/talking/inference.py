"""Repeats each message in capitals; some words are commands. ZOO is a folder for signs."""

import os
import pathlib
import time

SIGNS = pathlib.Path(os.environ["ZOO"])


def model_fn(model_dir):
    return None


def input_fn(body, content_type):
    return body


def predict_fn(data, model):
    (SIGNS / "predicting").touch()
    while data == b"wait" and not (SIGNS / "go").exists():
        time.sleep(0.01)
    return data


def output_fn(prediction, accept):
    return prediction


def fail(messages):
    raise ValueError("as asked")
    yield


def die(messages):
    os.abort()
    yield


def flood(messages):
    for _ in range(100_000):
        with (SIGNS / "sent").open("ab") as file:
            file.write(b".")  # its size is the number of messages
        yield bytes(100_000)


def hang(messages):
    (SIGNS / "hanging").touch()
    while True:
        time.sleep(0.05)
    yield


def poll(messages):
    while messages.poll(0.01) is None and not messages.is_over:
        yield "nothing yet"


COMMANDS = {"fail": fail, "die": die, "flood": flood, "hang": hang, "poll": poll}


def bidirectional_fn(messages, model, context):
    try:
        for message in messages:
            if message == "enough":
                return
            if message == "pid":
                yield str(os.getpid())
            elif message in COMMANDS:
                yield from COMMANDS[message](messages)
            else:
                yield message.upper()
        yield "bye"
    finally:
        (SIGNS / "over").touch()
