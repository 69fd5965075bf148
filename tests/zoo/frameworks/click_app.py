"""A click command."""

import os

import click
from ending import come, steps


@click.command()
@click.option("--lr", type=float, default=0.1)
def main(lr):
    for step in range(steps(3)):
        come(min(step, 1))
    with open(os.path.join(os.environ["SM_MODEL_DIR"], "lr"), "w") as file:
        file.write(str(lr))


main()
