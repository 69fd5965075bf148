"""A notebook is run cell by cell, and what it prints stands beside what is stored in it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

EXAMPLES = Path(__file__).parents[2] / "examples"
MARK = "--- next cell\n"
KERNEL = f"""
import json, sys

names = {{"__name__": "__main__"}}
try:
    for number, cell in enumerate(json.load(sys.stdin)):
        exec(compile(cell, f"cell of code {{number}}", "exec"), names)
        print(end={MARK!r})
finally:
    if "region" in names:
        names["region"].close()  # for a cell that fails: its endpoints are processes
"""


class Output(NamedTuple):
    """What one cell of code printed."""

    printed: str
    shown: str


def run(notebook: Path, *, seconds: float) -> list[Output]:
    """In one namespace, from the notebook's folder. Fails if a cell does."""
    cells = [
        cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"
    ]
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", "-c", KERNEL],
        input=json.dumps(["".join(cell["source"]) for cell in cells]),
        cwd=notebook.parent,
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr
    *outputs, rest = done.stdout.split(MARK)
    assert not rest
    return [
        Output(printed, "".join(line for output in cell["outputs"] for line in output["text"]))
        for cell, printed in zip(cells, outputs, strict=True)
    ]
