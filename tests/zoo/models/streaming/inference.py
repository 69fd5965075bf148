"""Streams as each request tells it to; it waits for files in $ZOO, so that tests are in charge."""

import os
import pathlib
import time

FOLDER = pathlib.Path(os.environ["ZOO"])


def wait(name):
    while not (FOLDER / name).exists():
        time.sleep(0.005)


def words(text):
    yield from text.split()


def numbers(count):
    for number in range(int(count)):
        yield {"n": number}


def large(size):
    yield bytes(int(size))
    yield b"end"


def slow(name):
    yield "first"
    wait(name)
    yield "second"


def endless(name):
    try:
        while True:
            yield "x" * 10_000
    finally:
        (FOLDER / name).touch()


def nothing(_):
    return iter(())


def fails_at_once(text):
    raise ValueError(text)
    yield


def fails_late(text):
    yield "fine"
    raise ValueError(text)


def dies_late(_):
    yield "fine"
    os.kill(os.getpid(), 9)


COMMANDS = {
    function.__name__: function
    for function in (
        *(words, numbers, large, slow, endless, nothing),
        *(fails_at_once, fails_late, dies_late),
    )
}


def model_fn(model_dir):
    return None


def input_fn(body, content_type):
    return body.decode()


def predict_fn(data, model):
    command, _, argument = data.partition(" ")
    return COMMANDS[command](argument)
