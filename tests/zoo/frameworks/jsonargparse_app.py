"""A function that jsonargparse makes a command of, as LightningCLI does with a trainer."""

from ending import train
from jsonargparse import auto_cli


def main(lr: float = 0.1):
    train(lr)


auto_cli(main)
