"""A click command."""

import click
from ending import train


@click.command()
@click.option("--lr", type=float, default=0.1)
def main(lr):
    train(lr)


main()
