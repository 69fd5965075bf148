"""A function that fire makes a command of."""

import os

import fire
from ending import come, steps


def main(lr=0.1):
    for step in range(steps(3)):
        come(min(step, 1))
    with open(os.path.join(os.environ["SM_MODEL_DIR"], "lr"), "w") as file:
        file.write(str(lr))


fire.Fire(main)
