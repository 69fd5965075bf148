"""Against sagemaker-training 5.1.4: the same trees, and only reviewed differences.

BYOC_TOOLKIT_PYTHON names the Python of an environment that has it (scripts/toolkit-env makes one).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.unit.training.supervisor.conftest import COMMAND
from tests.unit.training.supervisor.differential import CASES, PAGE, differences, listed, page, run

PYTHON = os.environ.get("BYOC_TOOLKIT_PYTHON", "")


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON, reason="BYOC_TOOLKIT_PYTHON is not set: see scripts/toolkit-env")
def test_differences_are_the_reviewed_ones(tmp_path):
    """Each difference is listed, and each that is listed is there."""
    found = {}
    for number, case in enumerate(CASES):
        theirs = run(case, tmp_path / f"theirs{number}", [str(Path(PYTHON).parent / "train")])
        ours = run(case, tmp_path / f"ours{number}", [*COMMAND, "train"])
        found |= differences(theirs, ours)
    reviewed = listed()
    assert found.keys() - reviewed.keys() == set(), "not reviewed"
    assert reviewed.keys() - found.keys() == set(), "no longer there"
    for key, (theirs, ours) in found.items():
        if key[0] == "argument":
            assert (theirs, ours) == (reviewed[key]["toolkit"], reviewed[key]["ours"])


def test_page_is_fresh():
    """python -m tests.unit.training.supervisor.differential writes the page from the data."""
    assert PAGE.read_text() == page()
