"""A notebook is run cell by cell, and what it prints stands beside what is stored in it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

EXAMPLES = Path(__file__).parents[2] / "examples"
MARK = "--- next cell"


class Output(NamedTuple):
    """Of one cell of code."""

    printed: str
    shown: str


def run(notebook: Path, *, seconds: float) -> list[Output]:
    """As in a kernel: one namespace, from the notebook's folder. Fails if a cell does."""
    cells = [
        cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"
    ]
    program = f"\nprint({MARK!r})\n".join("".join(cell["source"]) for cell in cells)
    command = [sys.executable, "-W", "error::SyntaxWarning", "-c", program]
    done = subprocess.run(
        command, cwd=notebook.parent, check=False, capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, done.stderr
    return [
        Output(printed, "".join(line for output in cell["outputs"] for line in output["text"]))
        for cell, printed in zip(cells, done.stdout.split(f"{MARK}\n"), strict=True)
    ]
