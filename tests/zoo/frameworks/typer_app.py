"""A typer application, with its boxes around errors."""

import os

import typer
from ending import come, steps

app = typer.Typer()


@app.command()
def main(lr: float = 0.1):
    for step in range(steps(3)):
        come(min(step, 1))
    with open(os.path.join(os.environ["SM_MODEL_DIR"], "lr"), "w") as file:
        file.write(str(lr))


app()
