"""The notebook is run cell by cell, and prints what is stored in it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples/walkthrough/walkthrough.ipynb"
MARK = "--- next cell"


@pytest.mark.slow
def test_the_notebook_prints_what_it_shows():
    cells = [
        cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"
    ]
    # As in a kernel: one namespace, from the notebook's folder.
    program = f"\nprint({MARK!r})\n".join("".join(cell["source"]) for cell in cells)
    command = [sys.executable, "-W", "error::SyntaxWarning", "-c", program]
    done = subprocess.run(
        command, cwd=NOTEBOOK.parent, check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for cell, printed in zip(cells, done.stdout.split(f"{MARK}\n"), strict=True):
        shown = "".join(line for output in cell["outputs"] for line in output["text"])
        assert _without_accuracy(printed) == _without_accuracy(shown)
    (accuracy,) = re.findall(r"(\d+)% right", done.stdout)
    assert int(accuracy) >= 95


def _without_accuracy(text):
    """The last percent depends on how this processor rounds."""
    return re.sub(r"\d+% right", "N% right", text)
