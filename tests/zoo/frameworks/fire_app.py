"""A function that fire makes a command of."""

import fire
from ending import train


def main(lr=0.1):
    train(lr)


fire.Fire(main)
