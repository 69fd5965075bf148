"""A function that jsonargparse makes a command of, as LightningCLI does with a trainer."""

import os

from ending import come, steps
from jsonargparse import auto_cli


def main(lr: float = 0.1):
    for step in range(steps(3)):
        come(min(step, 1))
    with open(os.path.join(os.environ["SM_MODEL_DIR"], "lr"), "w") as file:
        file.write(str(lr))


auto_cli(main)
