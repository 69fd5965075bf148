"""A typer application, with its boxes around errors."""

import typer
from ending import train

app = typer.Typer()


@app.command()
def main(lr: float = 0.1):
    train(lr)


app()
